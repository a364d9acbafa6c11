// SPDX-License-Identifier: GPL-2.0
/*
 * writer PATH FIRST BLOCKS THREADS SEED PACE_US ZEROES RESTLESS_FIRST RESTLESS_BLOCKS: writes and reads blocks of 4 KiB of a
 * disk or a file past the page cache, and knows at any time what each may hold.
 *
 * A block has a counter, which goes up with each write to it; `issued` is the highest that was given to the system,
 * `acked` the highest that it has acknowledged. Each of the 512 words of a block is a function of the seed, the block,
 * the word's place and the counter, so a word of an older write, of another block or of nothing at all is found out. A
 * read must find a counter from `acked` as it was before the read to `issued` as it was after it; only where the two
 * differ, while a write was under way, may the words be of different counters. Where ZEROES is 1, one counter in 16
 * stands for zeroes, which are made by fallocate.
 *
 * RESTLESS_BLOCKS from RESTLESS_FIRST on (0: none) are for one thread more, which writes them from a buffer that another one
 * changes while the write is under way. Nobody can know what they hold, so they are never read here: whoever has the stores
 * has to see that all hold the same there.
 *
 * Takes lines: "pause" (answers "PAUSED" when nothing is under way), "verify" (reads all blocks, says "VERIFIED ..."), "go",
 * "quit". Once a second it says "T now operations oldest start end kind": when the oldest operation that is under way
 * was submitted (0: none is), and the longest one of those that ended in this second, by the monotonic clock. Says "DIFF
 * ..." or "ERROR ..." and ends when something is wrong.
 *
 * writer decode SEED BLOCK ZEROES FILE OFFSET MOST: says which counter a block in a file has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define WORDS (BLOCK / 8)
#define SPAN 8 /* blocks of one operation at most */
#define HOT 4 /* blocks of each thread that get half of all operations, so that late writes meet newer ones */
#define MAX_THREADS 64
#define RESTLESS_SPAN 64 /* blocks of one restless write at most */
#define CHANGE_US 20 /* between two changes of the restless buffer: the processor is needed elsewhere too */
#define LINE_WORDS 8 /* words of a line of the processor's cache, of which one is changed */
#define NAME_MAX_LEN 16

struct operation {
	_Atomic double start; /* 0: none is under way */
	char kind[NAME_MAX_LEN];
};

struct worker {
	pthread_t thread;
	int number;
	void (*step)(struct worker *worker);
	uint64_t dice;
	uint8_t *buffer;
	struct operation operation;
};

static int fd;
static uint64_t first, blocks, seed, restless_first, restless_blocks;
static bool zeroes;
static int threads, pace_us;
static _Atomic uint32_t *acked, *issued, *seen;
static struct worker workers[MAX_THREADS + 2]; /* behind the threads one that verifies and one that is restless */
static _Atomic uint64_t operations, reversals, restless_writes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool paused;
static int idle;
/* Under the lock: the longest operation that ended in this second. */
static double longest_start, longest_end;
static char longest_kind[NAME_MAX_LEN] = "-";

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t roll(struct worker *worker)
{
	return worker->dice = mix(worker->dice);
}

/* What all words of a block are made from. */
static uint64_t root_of(uint64_t block, uint32_t counter)
{
	return mix(mix(seed ^ block) + counter);
}

static bool is_zero(uint64_t block, uint32_t counter)
{
	return counter == 0 || (zeroes && root_of(block, counter) % 16 == 0);
}

static uint64_t word_of(uint64_t root, int place)
{
	return (root + place) * 0x9e3779b97f4a7c15 ^ root >> 29;
}

static void fill(uint64_t *words, uint64_t block, uint32_t counter)
{
	uint64_t root = root_of(block, counter);

	for (int place = 0; place < WORDS; place++)
		words[place] = word_of(root, place);
}

static bool holds(const uint64_t *words, uint64_t block, uint32_t counter)
{
	uint64_t root = root_of(block, counter);
	bool zero = is_zero(block, counter);

	for (int place = 0; place < WORDS; place++)
		if (words[place] != (zero ? 0 : word_of(root, place)))
			return false;
	return true;
}

static bool word_fits(uint64_t word, int place, uint64_t block, uint32_t low, uint32_t high)
{
	for (uint32_t counter = low; counter <= high; counter++)
		if (word == (is_zero(block, counter) ? 0 : word_of(root_of(block, counter), place)))
			return true;
	return false;
}

/*
 * The same while a write is under way: the server may read what it is just writing, and where its processor copies
 * byte by byte, as an emulated one does, even a word may be half old and half new.
 */
static bool word_may_be(uint64_t word, int place, uint64_t block, uint32_t low, uint32_t high)
{
	for (int byte = 0; byte < 8; byte++) {
		uint64_t mask = 0xffULL << (8 * byte);
		uint32_t counter = low;

		while (counter <= high) {
			uint64_t whole = is_zero(block, counter) ? 0 : word_of(root_of(block, counter), place);

			if (!((word ^ whole) & mask))
				break;
			counter++;
		}
		if (counter > high)
			return false;
	}
	return true;
}

/* Says what a block holds, as far as that can be told. */
static void describe(const uint64_t *words, uint64_t block, uint32_t most)
{
	for (uint32_t counter = 0; counter <= most; counter++)
		if (holds(words, block, counter)) {
			printf("holds counter %u%s", counter, is_zero(block, counter) ? " (zeroes)" : "");
			return;
		}
	printf("is a mixture:");
	for (int place = 0; place < WORDS; place += WORDS / 8) {
		uint32_t counter = 0;

		while (counter <= most && !word_fits(words[place], place, block, counter, counter))
			counter++;
		if (counter <= most)
			printf(" %u", counter);
		else
			printf(" %016llx", (unsigned long long)words[place]);
	}
}

static void differs(const uint64_t *words, uint64_t block, uint32_t low, uint32_t high, const char *when)
{
	pthread_mutex_lock(&lock);
	printf("DIFF block %llu must hold counter %u to %u and ", (unsigned long long)block, low, high);
	describe(words, block, high + 1000);
	printf(", %s at %.3f\n", when, now());
	fflush(stdout);
	_exit(2);
}

static void failed(const char *kind, uint64_t block, long done)
{
	int number = done < 0 ? errno : 0;

	pthread_mutex_lock(&lock);
	printf("ERROR %s of block %llu: %s (%ld) at %.3f\n", kind, (unsigned long long)block, strerror(number), done, now());
	fflush(stdout);
	_exit(3);
}

static void check(const uint64_t *words, uint64_t block, uint32_t low, uint32_t high)
{
	uint32_t before = seen[block];

	for (uint32_t counter = low; counter <= high; counter++)
		if (holds(words, block, counter)) {
			/* While a write is under way each group may have it or not: no mirror promises an order there. */
			if (counter < before)
				reversals++;
			while (before < counter && !atomic_compare_exchange_weak(&seen[block], &before, counter))
				;
			return;
		}
	for (int place = 0; place < WORDS; place++)
		if (low == high || !word_may_be(words[place], place, block, low, high))
			differs(words, block, low, high, "read");
}

static void begin(struct worker *worker, const char *kind)
{
	strcpy(worker->operation.kind, kind);
	worker->operation.start = now();
}

static void end(struct worker *worker)
{
	double start = worker->operation.start, finish = now();

	worker->operation.start = 0;
	operations++;
	pthread_mutex_lock(&lock);
	if (finish - start > longest_end - longest_start) {
		longest_start = start;
		longest_end = finish;
		strcpy(longest_kind, worker->operation.kind);
	}
	pthread_mutex_unlock(&lock);
}

static off_t offset_of(uint64_t block)
{
	return (first + block) * BLOCK;
}

static void write_blocks(struct worker *worker, uint64_t block, int count, bool durable)
{
	struct iovec vector = { worker->buffer, (size_t)count * BLOCK };
	const char *kind = durable ? "fua" : "write";
	ssize_t done;

	for (int i = 0; i < count; i++) {
		uint32_t counter = issued[block + i] + 1;

		if (is_zero(block + i, counter))
			memset(worker->buffer + i * BLOCK, 0, BLOCK);
		else
			fill((uint64_t *)(worker->buffer + i * BLOCK), block + i, counter);
		issued[block + i] = counter;
	}
	begin(worker, kind);
	done = pwritev2(fd, &vector, 1, offset_of(block), durable ? RWF_DSYNC : 0);
	end(worker);
	if (done != (ssize_t)vector.iov_len)
		failed(kind, block, done);
	for (int i = 0; i < count; i++)
		acked[block + i] = issued[block + i];
}

/* If the block's next counter stands for zeroes: makes them, and says so. */
static bool zero_block(struct worker *worker, uint64_t block)
{
	uint32_t counter = issued[block] + 1;
	bool punch = counter & 1;
	long done;

	if (!zeroes || !is_zero(block, counter))
		return false;
	issued[block] = counter;
	begin(worker, punch ? "punch" : "zero");
	done = fallocate(fd, (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE,
			 offset_of(block), BLOCK);
	end(worker);
	if (done)
		failed("fallocate", block, done);
	acked[block] = counter;
	return true;
}

static void read_blocks(struct worker *worker, uint64_t block, int count)
{
	uint32_t low[SPAN];
	ssize_t done;

	for (int i = 0; i < count; i++)
		low[i] = acked[block + i];
	begin(worker, "read");
	done = pread(fd, worker->buffer, (size_t)count * BLOCK, offset_of(block));
	end(worker);
	if (done != (ssize_t)count * BLOCK)
		failed("read", block, done);
	for (int i = 0; i < count; i++)
		check((uint64_t *)(worker->buffer + i * BLOCK), block + i, low[i], issued[block + i]);
}

static void flush(struct worker *worker)
{
	long done;

	begin(worker, "flush");
	done = fdatasync(fd);
	end(worker);
	if (done)
		failed("flush", 0, done);
}

static void step(struct worker *worker)
{
	uint64_t own = blocks / threads, from;
	uint64_t die = roll(worker) % 100;
	int count = roll(worker) % 4 ? 1 : 1 + roll(worker) % SPAN;

	if (die < 3)
		return flush(worker);
	from = roll(worker) % (roll(worker) % 2 ? HOT : own - count);
	if (die < 45)
		return read_blocks(worker, own * (roll(worker) % threads) + from, count);
	from += own * worker->number;
	if (count > 1 || !zero_block(worker, from))
		write_blocks(worker, from, count, die < 52);
}

static void step_restless(struct worker *worker)
{
	uint64_t count = roll(worker) % 2 ? 1 : 1 + roll(worker) % RESTLESS_SPAN;
	uint64_t block = restless_first + roll(worker) % (restless_blocks - count + 1);
	ssize_t done;

	begin(worker, "restless");
	done = pwrite(fd, worker->buffer, count * BLOCK, block * BLOCK);
	end(worker);
	if (done != (ssize_t)(count * BLOCK))
		failed("restless write", block, done);
	restless_writes++;
}

/* Changes the buffer of a write that is under way, from its first to its last word, over and over. */
static void *change(void *argument)
{
	struct worker *worker = argument;
	volatile uint64_t *words = (uint64_t *)worker->buffer;

	for (uint64_t round = 1;; round++) {
		if (worker->operation.start)
			for (int place = 0; place < RESTLESS_SPAN * WORDS; place += LINE_WORDS)
				words[place] = mix(round);
		usleep(CHANGE_US);
	}
	return NULL;
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (;;) {
		pthread_mutex_lock(&lock);
		if (paused) {
			idle++;
			pthread_cond_broadcast(&changed);
			while (paused)
				pthread_cond_wait(&changed, &lock);
			idle--;
		}
		pthread_mutex_unlock(&lock);
		worker->step(worker);
		if (pace_us)
			usleep(roll(worker) % (2 * pace_us));
	}
	return NULL;
}

static void *report(void *argument)
{
	(void)argument;
	for (;;) {
		double oldest = 0;

		usleep(1000000);
		for (int i = 0; i <= threads + 1; i++) {
			double start = workers[i].operation.start;

			if (start && (!oldest || start < oldest))
				oldest = start;
		}
		pthread_mutex_lock(&lock);
		printf("T %.3f %llu %.3f %.3f %.3f %s\n", now(), (unsigned long long)operations, oldest, longest_start,
		       longest_end, longest_kind);
		fflush(stdout);
		longest_start = longest_end = 0;
		strcpy(longest_kind, "-");
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void pause_all(void)
{
	pthread_mutex_lock(&lock);
	paused = true;
	while (idle < threads + !!restless_blocks)
		pthread_cond_wait(&changed, &lock);
	printf("PAUSED\n");
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

static void go_on(void)
{
	pthread_mutex_lock(&lock);
	paused = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void verify(void)
{
	for (uint64_t block = 0; block < blocks; block += SPAN) {
		int count = blocks - block < SPAN ? blocks - block : SPAN;

		read_blocks(&workers[threads], block, count);
	}
	pthread_mutex_lock(&lock);
	printf("VERIFIED %llu blocks, %llu reversals, %llu restless writes\n", (unsigned long long)blocks,
	       (unsigned long long)reversals, (unsigned long long)restless_writes);
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

/* One of the threads, or the one that verifies, which has no step and is no thread of its own. */
static void start_worker(int number, void (*step)(struct worker *worker), int span)
{
	struct worker *worker = &workers[number];

	worker->number = number;
	worker->step = step;
	worker->dice = mix(seed + number);
	worker->buffer = aligned_alloc(BLOCK, (size_t)span * BLOCK);
	if (!worker->buffer || (step && pthread_create(&worker->thread, NULL, work, worker)))
		exit(1);
}

static void start_restless(void)
{
	pthread_t changer;

	start_worker(threads + 1, step_restless, RESTLESS_SPAN);
	if (pthread_create(&changer, NULL, change, &workers[threads + 1]))
		exit(1);
}

static int decode(char **argv)
{
	uint64_t words[WORDS];
	int file = open(argv[5], O_RDONLY);

	seed = strtoull(argv[2], NULL, 0);
	zeroes = atoi(argv[4]);
	if (pread(file, words, BLOCK, strtoull(argv[6], NULL, 0)) != BLOCK)
		return 1;
	describe(words, strtoull(argv[3], NULL, 0), strtoul(argv[7], NULL, 0));
	printf("\n");
	return 0;
}

int main(int argc, char **argv)
{
	char line[64];
	pthread_t reporter;

	if (argc == 8 && !strcmp(argv[1], "decode"))
		return decode(argv);
	if (argc != 10)
		return 1;
	first = strtoull(argv[2], NULL, 0);
	blocks = strtoull(argv[3], NULL, 0);
	threads = atoi(argv[4]);
	seed = strtoull(argv[5], NULL, 0);
	pace_us = atoi(argv[6]);
	zeroes = atoi(argv[7]);
	restless_first = strtoull(argv[8], NULL, 0);
	restless_blocks = strtoull(argv[9], NULL, 0);
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0 || threads < 1 || threads > MAX_THREADS || blocks / threads < HOT + SPAN ||
	    (restless_blocks && restless_blocks < RESTLESS_SPAN)) {
		printf("ERROR cannot work on %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	acked = calloc(blocks, sizeof(*acked));
	issued = calloc(blocks, sizeof(*issued));
	seen = calloc(blocks, sizeof(*seen));
	for (int number = 0; number < threads; number++)
		start_worker(number, step, SPAN);
	start_worker(threads, NULL, SPAN);
	if (restless_blocks)
		start_restless();
	if (pthread_create(&reporter, NULL, report, NULL))
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "pause\n"))
			pause_all();
		else if (!strcmp(line, "verify\n"))
			verify();
		else if (!strcmp(line, "go\n"))
			go_on();
		else
			break;
	}
	_exit(0);
}
