# SPDX-License-Identifier: MIT
# Toolchain for AArch64 from another Linux machine: GCC's cross compiler (Debian: g++-aarch64-linux-gnu), a folder with
# Debian's arm64 libraries (platforms/sysroot makes one) in MFRES_SYSROOT, and QEMU to run what was compiled
# (qemu-user-static; its environment variable QEMU_CPU chooses the processor, such as cortex-a53).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(MFRES_SYSROOT_OF arm64)
set(MFRES_SYSROOT_BY "bash platforms/sysroot arm64 bookworm FOLDER")
include("${CMAKE_CURRENT_LIST_DIR}/../sysroot.cmake")
set(CMAKE_SYSROOT "${MFRES_SYSROOT}")

set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_FLAGS_INIT -Wno-psabi) # notes on how GCC 9 passed arguments
# pkg-config of this machine, with the files of the other.
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${MFRES_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${MFRES_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${MFRES_SYSROOT}/usr/share/pkgconfig")

find_program(MFRES_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(MFRES_QEMU)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${MFRES_QEMU}" -L "${MFRES_SYSROOT}")
endif()
