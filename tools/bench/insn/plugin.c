// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts the instructions of a guest by the address of their translation block.
 *
 *   gcc -O2 -fPIC -shared -o insn.so plugin.c
 *   VM_QEMU_ARGS="-plugin file=insn.so,out=PREFIX" scripts/vm tools/bench/insn/measure
 *
 * The guest starts and ends a count with an instruction that does nothing else, an 8-byte NOP with one of two
 * displacements. At the end of count N, PREFIX.N gets a line for each block: address, instructions executed in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin.h"

EXPORT int qemu_plugin_version = 7;

/* Blocks that are told apart; what is translated later is not counted. */
#define BLOCKS (1u << 21)

static struct qemu_plugin_scoreboard *score;
static uint64_t addresses[BLOCKS];
static unsigned int blocks;
static const char *prefix = "insn";
static unsigned int dumps;

/* nopl MAGIC(%rax,%rax,1), with the displacement's first byte 'B' to begin and 'E' to end. */
static const uint8_t nop[8] = { 0x0f, 0x1f, 0x84, 0x00, 0, 0x4e, 0x42, 0x44 };

static void begin(unsigned int vcpu, void *unused)
{
	memset(qemu_plugin_scoreboard_find(score, vcpu), 0, BLOCKS * sizeof(uint64_t));
}

static void end(unsigned int vcpu, void *unused)
{
	const uint64_t *counts = qemu_plugin_scoreboard_find(score, vcpu);
	char name[4096];
	FILE *file;

	snprintf(name, sizeof(name), "%s.%u", prefix, dumps++);
	file = fopen(name, "w");
	if (!file)
		return perror(name);
	for (unsigned int i = 0; i < blocks; i++)
		if (counts[i])
			fprintf(file, "%" PRIx64 " %" PRIu64 "\n", addresses[i], counts[i]);
	fclose(file);
}

static void translated(struct qemu_plugin_tb *tb, void *unused)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint8_t bytes[16];

	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(nop) || memcmp(bytes, nop, 4) ||
		    memcmp(bytes + 5, nop + 5, 3))
			continue;
		if (bytes[4] == 'B')
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, NO_REGS, NULL);
		else if (bytes[4] == 'E')
			qemu_plugin_register_vcpu_insn_exec_cb(insn, end, NO_REGS, NULL);
	}
	if (blocks == BLOCKS)
		return;
	addresses[blocks] = qemu_plugin_tb_vaddr(tb);
	qemu_plugin_u64 entry = { score, blocks * sizeof(uint64_t) };
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, ADD_U64, entry, count);
	blocks++;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			prefix = strdup(argv[i] + 4);
	score = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	return 0;
}
