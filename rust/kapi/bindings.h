/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What enbd uses of the kernel and what kernel::bindings lacks: bindgen reads this file (see
 * Kbuild), and helpers.c is compiled against it. Types that kernel::bindings has come from there.
 */
#ifndef ENBD_KAPI_BINDINGS_H
#define ENBD_KAPI_BINDINGS_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/if.h>
#include <linux/kthread.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uio.h>
#include <net/net_namespace.h>

/* Macros with casts, which bindgen cannot evaluate as macros. */
static const u32 ENBD_FEAT_WRITE_CACHE = (__force u32)BLK_FEAT_WRITE_CACHE;
static const u32 ENBD_FEAT_FUA = (__force u32)BLK_FEAT_FUA;
static const u32 ENBD_FEAT_STABLE_WRITES = (__force u32)BLK_FEAT_STABLE_WRITES;
static const u32 ENBD_FEAT_ROTATIONAL = (__force u32)BLK_FEAT_ROTATIONAL;
static const u32 ENBD_POLL_PLAIN = (__force u32)(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM);
static const u32 ENBD_POLL_CHANGED = (__force u32)(EPOLLPRI | EPOLLERR);
static const u32 ENBD_POLL_GONE = (__force u32)(EPOLLERR | EPOLLHUP);
static const u32 ENBD_REQ_FUA = (__force u32)REQ_FUA;
static const u32 ENBD_REQ_NOUNMAP = (__force u32)REQ_NOUNMAP;
static const u32 ENBD_REQ_OP_MASK = (__force u32)REQ_OP_MASK;

/* helpers.c: inline functions, macros, and fields of structs that Rust sees as opaque. */
struct net *enbd_get_current_net(void);
bool enbd_is_killed(void);
void enbd_put_net(struct net *net);
int enbd_net_ifindex(struct net *net, const char *name);
void enbd_sock_prepare(struct socket *sock);
void enbd_sock_set_keepalive(struct socket *sock, int idle_s, int interval_s, int count);
void enbd_sock_release(struct socket *sock);
void enbd_sock_abort(struct socket *sock);
bool enbd_sock_peer_closed(struct socket *sock);
int enbd_sock_connect(struct socket *sock, struct sockaddr_unsized *addr, int len);
void enbd_sock_set_timeouts(struct socket *sock, unsigned int recv_ms, unsigned int send_ms);
bool enbd_page_is_exclusive(struct page *page);
struct page *enbd_zero_page(void);
void enbd_queue_disable_zeroes(struct request_queue *q);
unsigned int enbd_noreclaim_save(void);
void enbd_noreclaim_restore(unsigned int flags);
unsigned int enbd_noio_save(void);
void enbd_noio_restore(unsigned int flags);
int enbd_disk_lock_unless_open(struct gendisk *disk);
void enbd_disk_unlock(struct gendisk *disk);
struct device *enbd_disk_get_device(struct gendisk *disk);
struct request_queue *enbd_device_queue(struct device *dev);
void enbd_attr_init(struct device_attribute *attr, const char *name,
		    ssize_t (*show)(struct device *dev, struct device_attribute *attr, char *buf));
void enbd_attr_group_init(struct attribute_group *group, const char *name, struct attribute **attrs);
void enbd_device_put(struct device *dev);
int enbd_device_changed(struct device *dev, const char *words, size_t len);
void enbd_task_set_batch(struct task_struct *task);
void enbd_poll_init(struct wait_queue_head *queue);
void enbd_poll_wait(struct file *file, struct wait_queue_head *queue, struct poll_table_struct *table);
void enbd_poll_wake(struct wait_queue_head *queue);
bool enbd_poll_drain(struct wait_queue_head *queue);
void *enbd_inode_pde_data(const struct inode *inode);
bool enbd_is_same(struct page *a, struct page *b, size_t len);
bool enbd_is_zeroes(struct page *page, size_t len);
void enbd_copy_to_page(struct page *page, const u8 *from, size_t len);
void enbd_copy_from_page(struct page *page, size_t offset, u8 *to, size_t len);
void enbd_host_name(u8 *to, size_t len);
u32 enbd_crc32c_page(u32 crc, struct page *page, size_t from, size_t len);
u32 enbd_crc32c(u32 crc, const u8 *data, size_t len);

#endif
