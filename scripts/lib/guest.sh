# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a VM boots from, all in the cache: a root file system (Debian 13 with the test's tools), and for each kernel its
# image, its modules and an initramfs. Runs share them and write to a throw-away snapshot.

GUEST_PACKAGES=(
	nbdkit nbdkit-plugin-python nbd-server nbd-client qemu-utils libnbd-bin python3-libnbd gnutls-bin ktls-utils
	mdadm drbd-utils lvm2 dmsetup fio e2fsprogs xfsprogs btrfs-progs iproute2 iputils-ping nftables socat
	python3 strace trace-cmd gcc libc6-dev make util-linux bsdextrautils kmod procps psmisc file jq bc
)

# To be raised when make_guest or make_boot changes what it makes.
GUEST_RECIPE=1
BOOT_RECIPE=2

# What the initramfs must load before it can mount the root file system.
BOOT_MODULES=(virtio_pci virtio_blk ext4)

# ensure_guest: makes the root file system if needed, and sets GUEST.
ensure_guest() {
	local key
	key=$(printf '%s\n' "$ENBD_MIRROR" "$GUEST_RECIPE" "${GUEST_PACKAGES[@]}" | sha256sum | cut -c 1-12)
	GUEST=$ENBD_CACHE/guest-$key
	cached "$GUEST" make_guest
}

make_guest() {
	need_space 2500 "the VM's root file system"
	debian_tree "$1/root" "the VM" "${GUEST_PACKAGES[*]}"
	configure_guest "$1/root"
	progress "making the VM's disk" in_lab mke2fs -q -F -t ext4 -L enbd -m 0 -O ^has_journal \
		-E lazy_itable_init=0,root_owner=0:0 -d "$1/root" "$1/root.img" 8G
	rm -rf --one-file-system "$1/root"
}

# There is no systemd and no udev in the VM, only scripts/guest/init; these files are all that it wants.
configure_guest() {
	echo enbd >"$1/etc/hostname"
	printf '127.0.0.1 localhost enbd\n::1 localhost\n' >"$1/etc/hosts"
	ln -sf /proc/self/mounts "$1/etc/mtab"
	rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,locale,man}/*
}

# ensure_boot: makes the kernel's parts for RELEASE if needed, and sets BOOT.
ensure_boot() {
	local key
	key=$( (echo "$BOOT_RECIPE ${BOOT_MODULES[*]}" && cat "$ENBD_REPO/scripts/guest/initramfs-init") |
		sha256sum | cut -c 1-8)
	BOOT=$ENBD_CACHE/boot-${RELEASE}_${VERSION//:/}-$key
	cached "$BOOT" make_boot
}

make_boot() {
	local dir=$1 debs=$1/debs part parts=()
	need_space 2000 "the VM's kernel"
	for part in linux-base linux-binary linux-modules; do
		parts+=("$part-$RELEASE=$VERSION")
	done
	progress "fetching the stock kernel $RELEASE" fetch_debs "$debs" "${parts[@]}"
	part=$debs/usr/lib/modules/$RELEASE
	mv "$part/vmlinuz" "$dir/vmlinuz"
	mkdir -p "$dir/lib/modules"
	mv "$part" "$dir/lib/modules/"
	find "$debs" -name 'modules.*' -exec mv -t "$dir/lib/modules/$RELEASE" {} +
	rm -rf "$debs"
	progress "unpacking the modules" unpack_modules "$dir"
	make_initramfs "$dir"
	in_lab mke2fs -q -F -t ext4 -m 0 -O ^has_journal -E lazy_itable_init=0,root_owner=0:0 \
		-d "$dir/lib/modules/$RELEASE" "$dir/modules.img" 2G
}

# Compressed modules would be unpacked by an emulated CPU each time that one is loaded.
unpack_modules() {
	find "$1/lib/modules/$RELEASE" -name '*.ko.xz' -print0 | in_lab xargs -0 -P "$(nproc)" -n 32 xz -d
	mkdir -p "$1/lib/modules/$RELEASE/extra"
	in_lab depmod -b "$1" "$RELEASE"
}

make_initramfs() {
	local dir=$1 tree=$1/initramfs module number=0
	mkdir -p "$tree"/{bin,modules,newroot}
	cp "$LAB/usr/bin/busybox" "$tree/bin/busybox"
	cp "$ENBD_REPO/scripts/guest/initramfs-init" "$tree/init"
	while read -r module; do
		printf -v number '%03d' "$((10#$number + 1))"
		cp "$module" "$tree/modules/$number-${module##*/}"
	done < <(boot_modules "$dir")
	# shellcheck disable=SC2016 # expanded by the inner shell
	in_lab sh -c 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 >"$2"' - "$tree" "$dir/initramfs.cpio"
	rm -rf "$tree"
}

# boot_modules DIR: the files to insert, in order; those that are built in are not named.
boot_modules() {
	local name
	for name in "${BOOT_MODULES[@]}"; do
		in_lab modprobe -d "$1" -S "$RELEASE" --show-depends "$name" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
	done | awk '!seen[$0]++'
}
