// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts the instructions of a guest with one processor, and tells the guest.
 *
 *   gcc -O2 -fPIC -shared -o count.so count.c
 *   VM_CPUS=1 VM_QEMU_ARGS="-plugin file=count.so" scripts/vm ...
 *
 * Where the guest executes an 8-byte NOP that nobody else uses (counts.c), three of its registers get what was counted
 * since the start: rax the instructions in the kernel, rdx those outside of it, rcx what `rep movs` and `rep stos` wrote
 * to memory, in their own units. Such an instruction counts once among the instructions, however long it takes, so who
 * wants a copy to cost something adds rcx. A processor that is halted executes nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin.h"

EXPORT int qemu_plugin_version = 7;

enum { KERNEL, USER, STRING, COUNTS };
static const char *const names[COUNTS] = { "rax", "rdx", "rcx" };
static struct qemu_plugin_register *registers[COUNTS];
static struct qemu_plugin_scoreboard *score;

/* nopl MAGIC(%rax,%rax,1), with the displacement "TNBD": tell. */
static const uint8_t nop[8] = { 0x0f, 0x1f, 0x84, 0x00, 'T', 0x4e, 0x42, 0x44 };

static qemu_plugin_u64 counter(int which)
{
	return (qemu_plugin_u64){ score, which * sizeof(uint64_t) };
}

static void tell(unsigned int vcpu, void *unused)
{
	const uint64_t *counts = qemu_plugin_scoreboard_find(score, vcpu);

	for (int i = 0; i < COUNTS; i++) {
		uint64_t value = counts[i];
		struct array bytes = { (uint8_t *)&value, sizeof(value) };

		qemu_plugin_write_register(registers[i], &bytes);
	}
}

static bool is_repeated_write(const uint8_t *bytes, size_t size)
{
	uint8_t last = bytes[size - 1];

	return size >= 2 && (bytes[0] == 0xf3 || (bytes[0] == 0x66 && bytes[1] == 0xf3)) && size <= 4 &&
	       (last == 0xa4 || last == 0xa5 || last == 0xaa || last == 0xab);
}

static void translated(struct qemu_plugin_tb *tb, void *unused)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	/* Half of all addresses are the kernel's, the upper one. */
	int ring = qemu_plugin_tb_vaddr(tb) >> 63 ? KERNEL : USER;
	uint8_t bytes[16];

	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t size = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));

		if (size == sizeof(nop) && !memcmp(bytes, nop, sizeof(nop)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, tell, RW_REGS, NULL);
		else if (size && is_repeated_write(bytes, size))
			qemu_plugin_register_vcpu_mem_inline_per_vcpu(insn, WRITES, ADD_U64, counter(STRING), 1);
	}
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, ADD_U64, counter(ring), count);
}

static void find_registers(unsigned int vcpu, void *unused)
{
	struct array *all = qemu_plugin_get_registers();
	unsigned int size = g_array_get_element_size(all);

	for (unsigned int i = 0; i < all->len; i++) {
		const struct description *one = (void *)(all->data + i * size);

		for (int j = 0; j < COUNTS; j++)
			if (!registers[j] && !strcmp(one->name, names[j]))
				registers[j] = one->handle;
	}
	for (int j = 0; j < COUNTS; j++)
		if (!registers[j])
			abort();
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	score = qemu_plugin_scoreboard_new(COUNTS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_init_cb(id, find_registers, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	return 0;
}
