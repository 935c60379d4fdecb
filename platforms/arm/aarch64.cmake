# SPDX-License-Identifier: MIT
# Toolchain for AArch64 from another Linux machine (Debian: g++-aarch64-linux-gnu).
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(MFRES_SYSROOT_OF arm64)
set(MFRES_TRIPLET aarch64-linux-gnu)
set(MFRES_QEMU_NAMES qemu-aarch64-static qemu-aarch64)
include("${CMAKE_CURRENT_LIST_DIR}/gcc.cmake")
