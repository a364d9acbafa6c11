/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few functions of QEMU's plugin interface (version 7) that are used here: Debian packages no header.
 */
#ifndef QEMU_PLUGIN_H
#define QEMU_PLUGIN_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
struct qemu_plugin_register;
typedef uint64_t qemu_plugin_id_t;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;

/* The beginning of what GLib has for arrays. */
struct array {
	uint8_t *data;
	unsigned int len;
};

/* The beginning of a qemu_plugin_reg_descriptor. */
struct description {
	struct qemu_plugin_register *handle;
	const char *name;
};

enum { ADD_U64 = 0 };
enum { NO_REGS = 0, RW_REGS = 2 };
enum { WRITES = 2 };

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, void (*)(unsigned int, void *), void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(struct qemu_plugin_tb *, void *), void *);
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *, int, qemu_plugin_u64, uint64_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned int, void *), int, void *);
void qemu_plugin_register_vcpu_mem_inline_per_vcpu(struct qemu_plugin_insn *, int, int, qemu_plugin_u64, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *, unsigned int);
struct array *qemu_plugin_get_registers(void);
bool qemu_plugin_write_register(struct qemu_plugin_register *, struct array *);
unsigned int g_array_get_element_size(struct array *);

#endif
