# SPDX-License-Identifier: MIT
# Toolchain for 64-bit Windows from Linux: GCC of mingw-w64 (Debian: g++-mingw-w64-x86-64-posix), a folder with the
# libraries that mfres needs (platforms/windows/libraries makes one) in MFRES_SYSROOT, and Wine to run what was compiled.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)

set(MFRES_SYSROOT_OF Windows)
set(MFRES_SYSROOT_BY "bash platforms/windows/libraries FOLDER")
include("${CMAKE_CURRENT_LIST_DIR}/../sysroot.cmake")

set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix) # with the threads of C++
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
set(CMAKE_FIND_ROOT_PATH "${MFRES_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${MFRES_SYSROOT}/lib/pkgconfig")

find_program(MFRES_WINE NAMES wine wine64)
if(MFRES_WINE)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${MFRES_WINE}")
endif()
