// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of kapi: kernel inlines, macros, and fields of structs that are opaque to Rust.
 * Nothing is decided here.
 */
#include <linux/crc32.h>
#include <linux/fs_struct.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/page_ref.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/utsname.h>
#include <uapi/linux/sched/types.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "bindings.h"

/* The caller's network namespace, with a reference; NULL for a task that is exiting. */
struct net *enbd_get_current_net(void)
{
	struct nsproxy *proxy = current->nsproxy;

	return proxy ? get_net(proxy->net_ns) : NULL;
}

/* Whether the caller is about to be killed. */
bool enbd_is_killed(void)
{
	return fatal_signal_pending(current);
}

void enbd_put_net(struct net *net)
{
	put_net(net);
}

/* The number of an interface, which it keeps as long as it is there; 0 if there is none of that name. */
int enbd_net_ifindex(struct net *net, const char *name)
{
	struct net_device *dev;
	int index = 0;

	rcu_read_lock();
	dev = dev_get_by_name_rcu(net, name);
	if (dev)
		index = dev->ifindex;
	rcu_read_unlock();
	return index;
}

/*
 * Makes a fresh kernel socket fit to carry block I/O: it may dip into the reserves while memory is
 * being freed through it, it must not start I/O to get memory, and it must not use the page
 * fragment of the task that happens to send. It also holds its network namespace, since what TCP
 * does after the release still needs it.
 */
void enbd_sock_prepare(struct socket *sock)
{
	struct sock *sk = sock->sk;

	sk_net_refcnt_upgrade(sk);
	sk->sk_allocation = GFP_NOIO | __GFP_MEMALLOC;
	sk->sk_use_task_frag = false;
	sk_set_memalloc(sk);
	if (sk_is_tcp(sk)) {
		tcp_sock_set_nodelay(sk);
		sock_set_keepalive(sk);
	}
}

/*
 * A connection that has been idle for so many seconds is asked whether it is there still, again at
 * such intervals, and is lost when so many questions were not answered. The other side's kernel
 * answers. Nothing is asked over a Unix socket.
 */
void enbd_sock_set_keepalive(struct socket *sock, int idle_s, int interval_s, int count)
{
	if (!sk_is_tcp(sock->sk))
		return;
	tcp_sock_set_keepidle(sock->sk, idle_s);
	tcp_sock_set_keepintvl(sock->sk, interval_s);
	tcp_sock_set_keepcnt(sock->sk, count);
}

/*
 * What is left to send is thrown away (the other side gets a reset): the kernel would go on trying
 * to deliver it long after its owner has given it up.
 */
void enbd_sock_release(struct socket *sock)
{
	struct sock *sk = sock->sk;

	sock_no_linger(sk);
	/* The network changes other flags of the socket still. */
	lock_sock(sk);
	sk_clear_memalloc(sk);
	release_sock(sk);
	sock_release(sock);
}

/* The same at once, while the socket is kept. Nothing is held back on the way to a Unix socket. */
void enbd_sock_abort(struct socket *sock)
{
	if (sk_is_tcp(sock->sk))
		tcp_abort(sock->sk, ECONNABORTED);
	else
		kernel_sock_shutdown(sock, SHUT_RDWR);
}

/*
 * Whether a receive that found the end has really seen the other side close. A TCP socket that was
 * reset looks the same once somebody else, a sender, was told the error.
 */
bool enbd_sock_peer_closed(struct socket *sock)
{
	return !sk_is_tcp(sock->sk) || sock_flag(sock->sk, SOCK_DONE);
}

/*
 * Kernel threads live in an empty root, so the path of a unix socket is looked up in the first
 * process's. Any other task keeps its own root, which others could see changed.
 */
int enbd_sock_connect(struct socket *sock, struct sockaddr_unsized *addr, int len)
{
	int ret = -EINVAL;

	if (sock->sk->sk_family != AF_UNIX || !(current->flags & PF_KTHREAD))
		return kernel_connect(sock, addr, len, 0);
	scoped_with_init_fs()
		ret = kernel_connect(sock, addr, len, 0);
	return ret;
}

/* Zero means no limit. */
void enbd_sock_set_timeouts(struct socket *sock, unsigned int recv_ms, unsigned int send_ms)
{
	struct sock *sk = sock->sk;

	lock_sock(sk);
	WRITE_ONCE(sk->sk_rcvtimeo, recv_ms ? msecs_to_jiffies(recv_ms) : MAX_SCHEDULE_TIMEOUT);
	WRITE_ONCE(sk->sk_sndtimeo, send_ms ? msecs_to_jiffies(send_ms) : MAX_SCHEDULE_TIMEOUT);
	release_sock(sk);
}

/*
 * Nobody but the caller has a reference. What others did with theirs comes before what the caller
 * writes afterwards.
 */
bool enbd_page_is_exclusive(struct page *page)
{
	if (page_ref_count(page) != 1)
		return false;
	smp_acquire__after_ctrl_dep();
	return true;
}

struct page *enbd_zero_page(void)
{
	return ZERO_PAGE(0);
}

/* Requests that were made before still come. */
void enbd_queue_disable_zeroes(struct request_queue *q)
{
	blk_queue_disable_discard(q);
	blk_queue_disable_write_zeroes(q);
}

unsigned int enbd_noreclaim_save(void)
{
	return memalloc_noreclaim_save();
}

void enbd_noreclaim_restore(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

unsigned int enbd_noio_save(void)
{
	return memalloc_noio_save();
}

void enbd_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

/*
 * Takes the disk's open_mutex, or refuses with -EBUSY while the disk is open: openers are counted,
 * and the open operation runs, under that mutex, so what the caller changes before it unlocks is
 * seen by every later open.
 */
int enbd_disk_lock_unless_open(struct gendisk *disk)
{
	/* Whoever looks for partitions holds it, for ever if no server answers. */
	if (!mutex_trylock(&disk->open_mutex))
		return -EBUSY;
	if (!disk_openers(disk))
		return 0;
	mutex_unlock(&disk->open_mutex);
	return -EBUSY;
}

void enbd_disk_unlock(struct gendisk *disk)
{
	mutex_unlock(&disk->open_mutex);
}

struct device *enbd_disk_get_device(struct gendisk *disk)
{
	return get_device(disk_to_dev(disk));
}

void enbd_device_put(struct device *dev)
{
	put_device(dev);
}

struct request_queue *enbd_device_queue(struct device *dev)
{
	return dev_to_disk(dev)->queue;
}

/* A file of a device that everybody may read; `attr` and `group` are zeroes before. */
void enbd_attr_init(struct device_attribute *attr, const char *name,
		    ssize_t (*show)(struct device *dev, struct device_attribute *attr, char *buf))
{
	sysfs_attr_init(&attr->attr);
	attr->attr.name = name;
	attr->attr.mode = 0444;
	attr->show = show;
}

void enbd_attr_group_init(struct attribute_group *group, const char *name, struct attribute **attrs)
{
	group->name = name;
	group->attrs = attrs;
}

/* Each of the words ends with a NUL, the last one with `len`. */
int enbd_device_changed(struct device *dev, const char *words, size_t len)
{
	char *env[17];
	size_t at = 0;
	int n = 0;

	while (at < len) {
		if (n == ARRAY_SIZE(env) - 1)
			return -EINVAL;
		/* Is not changed. */
		env[n++] = (char *)words + at;
		at += strlen(words + at) + 1;
	}
	env[n] = NULL;
	return kobject_uevent_env(&dev->kobj, KOBJ_CHANGE, env);
}

/* A thread that does not interrupt whoever runs when it is woken up. */
void enbd_task_set_batch(struct task_struct *task)
{
	struct sched_attr attr = { .size = sizeof(attr), .sched_policy = SCHED_BATCH };

	sched_setattr_nocheck(task, &attr);
}

void enbd_poll_init(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

void enbd_poll_wait(struct file *file, struct wait_queue_head *queue, struct poll_table_struct *table)
{
	poll_wait(file, queue, table);
}

void enbd_poll_wake(struct wait_queue_head *queue)
{
	wake_up_poll(queue, EPOLLPRI | EPOLLERR);
}

/*
 * Wakes up who waits, and takes out who would stay in the queue for as long as it has the file: epoll.
 * Whether somebody is in it still. Who has left it has let go of its lock, too.
 */
bool enbd_poll_drain(struct wait_queue_head *queue)
{
	bool is_active;

	__wake_up(queue, TASK_NORMAL, 0, poll_to_key(EPOLLHUP | POLLFREE));
	spin_lock_irq(&queue->lock);
	is_active = waitqueue_active(queue);
	spin_unlock_irq(&queue->lock);
	return is_active;
}

void *enbd_inode_pde_data(const struct inode *inode)
{
	return pde_data(inode);
}

bool enbd_is_same(struct page *a, struct page *b, size_t len)
{
	void *x = kmap_local_page(a);
	void *y = kmap_local_page(b);
	bool same = !memcmp(x, y, len);

	kunmap_local(y);
	kunmap_local(x);
	return same;
}

bool enbd_is_zeroes(struct page *page, size_t len)
{
	void *x = kmap_local_page(page);
	bool zeroes = !memchr_inv(x, 0, len);

	kunmap_local(x);
	return zeroes;
}

void enbd_copy_to_page(struct page *page, const u8 *from, size_t len)
{
	memcpy_to_page(page, 0, from, len);
}

void enbd_copy_from_page(struct page *page, size_t offset, u8 *to, size_t len)
{
	memcpy_from_page(to, page, offset, len);
}

void enbd_host_name(u8 *to, size_t len)
{
	strscpy(to, init_utsname()->nodename, len);
}

u32 enbd_crc32c(u32 crc, const u8 *data, size_t len)
{
	return crc32c(crc, data, len);
}

u32 enbd_crc32c_page(u32 crc, struct page *page, size_t from, size_t len)
{
	u8 *x = kmap_local_page(page);

	crc = crc32c(crc, x + from, len);
	kunmap_local(x);
	return crc;
}
