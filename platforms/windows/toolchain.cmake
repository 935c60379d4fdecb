# SPDX-License-Identifier: MIT
# Toolchain for 64-bit Windows from Linux: GCC of mingw-w64 (Debian: g++-mingw-w64-x86-64-posix), a folder with the
# libraries that mfres needs (platforms/windows/libraries makes one) in MFRES_SYSROOT, and Wine to run what was compiled.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)

# Variables of the command line reach the projects that CMake makes to try the compiler only by name.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MFRES_SYSROOT)
set(MFRES_SYSROOT "$ENV{MFRES_SYSROOT}" CACHE PATH "Folder with libraries for Windows")
if(NOT IS_DIRECTORY "${MFRES_SYSROOT}")
    message(FATAL_ERROR "MFRES_SYSROOT (a CMake or environment variable) has to be a folder with libraries for Windows: "
                        "bash platforms/windows/libraries FOLDER makes one")
endif()

set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix) # with the threads of C++
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
set(CMAKE_FIND_ROOT_PATH "${MFRES_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} "${MFRES_SYSROOT}/lib/pkgconfig")

find_program(MFRES_WINE NAMES wine wine64)
if(MFRES_WINE)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${MFRES_WINE}")
endif()
