# SPDX-License-Identifier: MIT
# Toolchain for 32-bit Arm with NEON and fused multiply-add (Cortex-A7 and newer) from another Linux machine (Debian:
# g++-arm-linux-gnueabihf). GCC compiles NEON of ARMv7 for a whole file only: a program for it runs on no older processor.
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(MFRES_SYSROOT_OF armhf)
set(MFRES_TRIPLET arm-linux-gnueabihf)
set(MFRES_PROCESSOR_FLAGS "-mfpu=neon-vfpv4 -mfp16-format=ieee")
set(MFRES_QEMU_NAMES qemu-arm-static qemu-arm)
include("${CMAKE_CURRENT_LIST_DIR}/gcc.cmake")
