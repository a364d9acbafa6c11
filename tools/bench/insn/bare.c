// SPDX-License-Identifier: GPL-2.0
/*
 * bare PORT CONNECTIONS read|write|fsync BYTES DEPTH MILLISECONDS: the least that NBD requests can cost. No block layer, no
 * bookkeeping: what was answered is asked for anew, in one call of the network with all others that were answered. With
 * fsync a flush follows each write, and both together are one request; only with one connection and depth 1.
 * Prints how many requests were answered, and the nanoseconds that this took: instructions where time counts those.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE (64u << 20)

struct request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, from;
	uint32_t len;
} __attribute__((packed));

static uint32_t bytes;
static int writes, syncs;

static void get(int sock, void *to, size_t len)
{
	if (recv(sock, to, len, MSG_WAITALL) != (ssize_t)len)
		err(1, "recv");
}

static void put(int sock, const char *from, size_t len)
{
	while (len) {
		ssize_t n = send(sock, from, len, 0);

		if (n < 0)
			err(1, "send");
		from += n;
		len -= n;
	}
}

static int open_export(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int sock = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	char hello[18], answer[10];
	struct {
		uint32_t flags;
		uint64_t magic;
		uint32_t option, len;
	} __attribute__((packed)) choice = { htonl(3), htobe64(0x49484156454f5054), htonl(1), 0 };

	if (connect(sock, (struct sockaddr *)&to, sizeof(to)))
		err(1, "connect");
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	get(sock, hello, sizeof(hello));
	put(sock, (char *)&choice, sizeof(choice));
	get(sock, answer, sizeof(answer));
	return sock;
}

/* Asks for `count` more. */
static void ask(int sock, unsigned int count, char *out)
{
	static unsigned int next = 1;
	static int written;
	size_t at = 0;

	while (count--) {
		struct request rq = {
			.magic = htonl(0x25609513), .type = htons(writes), .len = htonl(bytes),
			.from = htobe64((uint64_t)(next % (SIZE / bytes)) * bytes),
		};
		int flush = syncs && written;

		if (flush)
			rq = (struct request){ .magic = rq.magic, .type = htons(3) };
		written = writes && !flush;
		next = next * 1664525 + 1013904223;
		memcpy(out + at, &rq, sizeof(rq));
		at += sizeof(rq) + (written ? bytes : 0);
	}
	put(sock, out, at);
}

int main(int argc, char **argv)
{
	if (argc != 7)
		errx(2, "usage: bare PORT CONNECTIONS read|write|fsync BYTES DEPTH MILLISECONDS");
	int connections = atoi(argv[2]), depth = atoi(argv[5]);
	uint64_t limit = atoll(argv[6]) * 1000000ull, took, answered = 0;
	struct pollfd socks[connections];
	size_t part[connections];
	struct timespec began, now;

	syncs = !strcmp(argv[3], "fsync");
	writes = syncs || !strcmp(argv[3], "write");
	if (syncs && (connections > 1 || depth > 1))
		errx(2, "bare: fsync is for one connection and depth 1");
	bytes = atoi(argv[4]);
	size_t reply = 16 + (writes ? 0 : bytes), room = depth * (sizeof(struct request) + bytes);
	char *out = calloc(1, room), *in = malloc(room);

	for (int i = 0; i < connections; i++) {
		socks[i] = (struct pollfd){ .fd = open_export(atoi(argv[1])), .events = POLLIN };
		part[i] = 0;
		ask(socks[i].fd, depth / connections ?: i == 0, out);
	}
	clock_gettime(CLOCK_MONOTONIC, &began);
	do {
		if (connections > 1)
			poll(socks, connections, -1);
		for (int i = 0; i < connections; i++) {
			ssize_t n;

			if (connections > 1 && !(socks[i].revents & POLLIN))
				continue;
			n = recv(socks[i].fd, in, room, 0);
			if (n <= 0)
				err(1, "recv");
			part[i] += n;
			answered += part[i] / reply;
			if (part[i] / reply)
				ask(socks[i].fd, part[i] / reply, out);
			part[i] %= reply;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		took = (now.tv_sec - began.tv_sec) * 1000000000ull + now.tv_nsec - began.tv_nsec;
	} while (took < limit);
	printf("%llu %llu\n", (unsigned long long)answered >> syncs, (unsigned long long)took);
	return 0;
}
