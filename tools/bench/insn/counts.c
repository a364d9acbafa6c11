// SPDX-License-Identifier: GPL-2.0
/*
 * Prints what count.c has counted in this guest: instructions in the kernel, outside of it, and units that repeated
 * string instructions wrote. Fails if nobody counts.
 */
#include <stdint.h>
#include <stdio.h>

int main(void)
{
	uint64_t kernel = 0, user = 0, string = 0;

	__asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 'T', 'N', 'B', 'D'"
			 : "+a"(kernel), "+d"(user), "+c"(string) : : "memory");
	printf("%lu %lu %lu\n", kernel, user, string);
	return !kernel;
}
