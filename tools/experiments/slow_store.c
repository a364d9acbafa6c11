// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded into a server, holds up what it writes to its store.
 *
 * STORE_DELAY_MS: each write waits so long first.
 * STORE_GATE: a path. When the file is there, the next write takes it away, makes PATH.held, and waits until that is taken
 * away; when it has been carried out it makes PATH.done. Other writes do not wait for it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void nap(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&time, &time))
		;
}

/* Whether the write was held. */
static int wait_first(void)
{
	const char *delay = getenv("STORE_DELAY_MS"), *gate = getenv("STORE_GATE");
	char held[4096];

	if (delay)
		nap(atol(delay));
	if (!gate)
		return 0;
	snprintf(held, sizeof(held), "%s.held", gate);
	if (rename(gate, held))
		return 0;
	while (!access(held, F_OK))
		nap(2);
	return 1;
}

static void tell(void)
{
	char done[4096];

	snprintf(done, sizeof(done), "%s.done", getenv("STORE_GATE"));
	close(open(done, O_CREAT | O_WRONLY, 0600));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
	int held = wait_first();
	ssize_t result = real(fd, data, size, offset);

	if (held)
		tell();
	return result;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
	ssize_t (*real)(int, const struct iovec *, int, off64_t) = dlsym(RTLD_NEXT, "pwritev64");
	int held = wait_first();
	ssize_t result = real(fd, parts, count, offset);

	if (held)
		tell();
	return result;
}

/* The same by the names that a program without 64 bit offsets of its own asking has for them. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite64(fd, data, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	return pwritev64(fd, parts, count, offset);
}
