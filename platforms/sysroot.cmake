# SPDX-License-Identifier: MIT
# What the toolchains for other systems share: MFRES_SYSROOT, a folder with libraries for what MFRES_SYSROOT_OF names, made
# by the command MFRES_SYSROOT_BY. Libraries come from there, programs from this machine.
# Variables of the command line reach the projects that CMake makes to try the compiler only by name.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MFRES_SYSROOT)
set(MFRES_SYSROOT "$ENV{MFRES_SYSROOT}" CACHE PATH "Folder with libraries for ${MFRES_SYSROOT_OF}")
if(NOT IS_DIRECTORY "${MFRES_SYSROOT}")
    message(FATAL_ERROR "MFRES_SYSROOT (a CMake or environment variable) has to be a folder with libraries for "
                        "${MFRES_SYSROOT_OF}: ${MFRES_SYSROOT_BY} makes one")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
