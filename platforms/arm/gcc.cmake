# SPDX-License-Identifier: MIT
# What the toolchains of this folder share: GCC's cross compiler for MFRES_TRIPLET, Debian's libraries for the architecture
# MFRES_SYSROOT_OF in MFRES_SYSROOT (platforms/sysroot makes such a folder), and QEMU to run what was compiled
# (qemu-user-static; its environment variable QEMU_CPU chooses the processor).
set(CMAKE_SYSTEM_NAME Linux)
set(MFRES_SYSROOT_BY "bash platforms/sysroot ${MFRES_SYSROOT_OF} bookworm FOLDER")
include("${CMAKE_CURRENT_LIST_DIR}/../sysroot.cmake")
set(CMAKE_SYSROOT "${MFRES_SYSROOT}")

set(CMAKE_CXX_COMPILER ${MFRES_TRIPLET}-g++)
set(CMAKE_C_COMPILER ${MFRES_TRIPLET}-gcc)
set(CMAKE_CXX_FLAGS_INIT "-Wno-psabi ${MFRES_PROCESSOR_FLAGS}") # notes on how older releases of GCC passed arguments
set(CMAKE_C_FLAGS_INIT "${MFRES_PROCESSOR_FLAGS}")
# pkg-config of this machine, with the files of the other.
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${MFRES_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${MFRES_SYSROOT}/usr/lib/${MFRES_TRIPLET}/pkgconfig:${MFRES_SYSROOT}/usr/share/pkgconfig")

find_program(MFRES_QEMU NAMES ${MFRES_QEMU_NAMES})
if(MFRES_QEMU)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${MFRES_QEMU}" -L "${MFRES_SYSROOT}")
endif()
