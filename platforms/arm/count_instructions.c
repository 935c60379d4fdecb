/* SPDX-License-Identifier: MIT
   A plugin of QEMU (7.2 and newer, user mode) that counts the AArch64 instructions a program executes, and among them the
   multiply-adds of floating point numbers, in vectors and one by one. Counts are exact for one thread. They are written to
   the file named by the argument `out`, as JSON. platforms/arm/instructions builds and uses it. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The part of QEMU's plugin interface, version 1, that is used here; its header is in no package of Debian. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, enum qemu_plugin_op, void*, uint64_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void*), void*);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
extern struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
extern const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

static uint64_t instructions, vector_fma, scalar_fma, vector_lanes;
static char path[4096];

/* Lanes of a vector multiply-add FMLA or FMLS, of whole vectors or by an element; 0 for any other instruction. Encodings:
   Arm Architecture Reference Manual for A-profile, C4.1 "Advanced SIMD three same" and "vector x indexed element". */
static unsigned lanes_of(uint32_t word) {
    const bool same = (word & 0xBF20FC00u) == 0x0E20CC00u;
    const bool indexed = (word & 0xBF80B400u) == 0x0F801000u;
    if (!same && !indexed)
        return 0;
    const unsigned bytes = (word >> 30 & 1) ? 16 : 8;
    return bytes / ((word >> 22 & 1) ? 8 : 4);
}

/* FMADD, FMSUB, FNMADD and FNMSUB of one float or double. */
static bool is_scalar_fma(uint32_t word) {
    return (word & 0xFF000000u) == 0x1F000000u;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* block) {
    const size_t count = qemu_plugin_tb_n_insns(block);
    uint64_t vectors = 0, lanes = 0, scalars = 0;
    (void)id;
    for (size_t i = 0; i < count; ++i) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        vectors += lanes_of(word) != 0;
        lanes += lanes_of(word);
        scalars += is_scalar_fma(word);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions, count);
    if (vectors) {
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &vector_fma, vectors);
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &vector_lanes, lanes);
    }
    if (scalars)
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &scalar_fma, scalars);
}

static void ended(qemu_plugin_id_t id, void* nothing) {
    FILE* const file = fopen(path, "w");
    (void)id, (void)nothing;
    if (!file)
        return;
    fprintf(file,
            "{\"instructions\": %" PRIu64 ", \"vector_fma\": %" PRIu64 ", \"vector_lanes\": %" PRIu64
            ", \"scalar_fma\": %" PRIu64 "}\n",
            instructions, vector_fma, vector_lanes, scalar_fma);
    fclose(file);
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
    (void)info;
    for (int i = 0; i < argc; ++i)
        if (strncmp(argv[i], "out=", 4) == 0)
            snprintf(path, sizeof path, "%s", argv[i] + 4);
    if (!path[0])
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
