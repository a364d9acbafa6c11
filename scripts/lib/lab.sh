# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The lab: a Debian 13 chroot with the compilers that built Debian's kernel and with QEMU. The host may be older or
# have other versions; a module must be built by the very rustc that built the kernel.

LAB_PACKAGES=(
	rustc rust-src rustfmt rust-clippy cargo bindgen clang-19 libclang-19-dev gcc-14 libc6-dev
	make flex bison bc libssl-dev libelf-dev zlib1g-dev pahole dwarves cpio kmod xz-utils zstd rsync
	busybox-static e2fsprogs qemu-system-x86 ca-certificates git shellcheck python3 util-linux procps
)

# What draws the documentation, in a tree of its own: only who wants to see it pays for that.
DOCS_PACKAGES=(python3-sphinx graphviz fonts-dejavu-core)

# What makes the packages, in a tree of its own, too: the compilers of the lab, Debian's packaging tools, and what judges
# units, rules and packages.
DEB_PACKAGES=(
	debhelper dh-dkms dkms lintian dpkg-dev rustc cargo bindgen libclang-19-dev gcc-14 gcc libc6-dev make
	libelf1t64 libssl3t64 xz-utils kmod systemd udev ca-certificates
)

# The servers of a client that dies, on this machine, in a tree of their own, too.
SERVER_PACKAGES=(nbdkit nbd-server qemu-utils util-linux)

# What the lab takes from backports: the kernel, a QEMU whose TCG can run SMP guests, and elfutils and seabios, which
# the former two need in matching versions. Everything else, rustc above all, is Debian 13's own.
lab_preferences() {
	cat <<-PREFERENCES
		Package: src:linux src:linux-signed-amd64 src:qemu src:elfutils src:seabios src:ipxe
		Pin: release n=trixie-backports
		Pin-Priority: 900
	PREFERENCES
}

lab_dir() {
	local key
	key=$( (printf '%s\n' "$ENBD_MIRROR" "${LAB_PACKAGES[@]}" && lab_preferences) | sha256sum | cut -c 1-12)
	printf '%s/lab-%s\n' "$ENBD_CACHE" "$key"
}

# ensure_lab: makes the lab if needed, and sets LAB.
ensure_lab() {
	open_cache
	LAB=$(lab_dir)
	export LAB
	[[ -d $LAB ]] || need_root
	cached "$LAB" make_lab
}

make_lab() {
	need_space 3500 "the toolchain chroot"
	debian_tree "$1" "the lab" "${LAB_PACKAGES[*]}" \
		--setup-hook="mkdir -p \"\$1\"/etc/apt/preferences.d" \
		--setup-hook="echo '$(lab_preferences)' >\"\$1\"/etc/apt/preferences.d/enbd" \
		-- "deb $ENBD_MIRROR trixie-backports main"
}

# ensure_docs_lab: makes the tree that draws the documentation if needed, and sets LAB to it.
ensure_docs_lab() {
	ensure_plain_lab docs "the documentation's tools" "${DOCS_PACKAGES[@]}"
}

# ensure_server_lab: makes the tree that has NBD servers if needed, and sets LAB to it.
ensure_server_lab() {
	ensure_plain_lab servers "the NBD servers" "${SERVER_PACKAGES[@]}"
}

# ensure_plain_lab NAME WHAT PACKAGE...: makes a tree of Debian 13's own packages if needed, and sets LAB to it.
ensure_plain_lab() {
	local name=$1 what=$2 key
	shift 2
	open_cache
	key=$(printf '%s\n' "$ENBD_MIRROR" "$@" | sha256sum | cut -c 1-12)
	LAB=$ENBD_CACHE/$name-$key
	export LAB
	[[ -d $LAB ]] || need_root
	cached "$LAB" make_plain_lab "$what" "$@"
}

make_plain_lab() {
	local dir=$1 what=$2
	shift 2
	need_space 600 "$what"
	debian_tree "$dir" "$what" "$*"
}

# ensure_deb_lab: makes the tree that makes packages if needed, and sets LAB to it.
ensure_deb_lab() {
	local key
	open_cache
	key=$( (printf '%s\n' "$ENBD_MIRROR" "${DEB_PACKAGES[@]}" && lab_preferences) | sha256sum | cut -c 1-12)
	LAB=$ENBD_CACHE/deb-$key
	export LAB
	[[ -d $LAB ]] || need_root
	cached "$LAB" make_deb_lab
}

make_deb_lab() {
	need_space 2500 "the packaging tools"
	debian_tree "$1" "the packaging tools" "${DEB_PACKAGES[*]}" \
		--setup-hook="mkdir -p \"\$1\"/etc/apt/preferences.d" \
		--setup-hook="echo '$(lab_preferences)' >\"\$1\"/etc/apt/preferences.d/enbd" \
		-- "deb $ENBD_MIRROR trixie-backports main"
}

# debian_tree DIR WHAT PACKAGES [OPTION...] [-- SOURCE...]: makes a Debian 13 tree.
debian_tree() {
	local dir=$1 what=$2 packages=$3 options=()
	shift 3
	while (($#)) && [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	need_command mmdebstrap mmdebstrap
	[[ -f /usr/share/keyrings/debian-archive-keyring.gpg ]] || install_package debian-archive-keyring
	check_mirror
	# In a mount namespace of its own, so that an interrupt leaves nothing mounted.
	progress "fetching the packages of $what from $ENBD_MIRROR" \
		unshare --mount --propagation private \
		mmdebstrap --mode=root --variant=apt --format=directory --include="${packages// /,}" "${options[@]}" \
		trixie "$dir" "deb $ENBD_MIRROR trixie main" "${@:2}"
}

check_mirror() {
	need_command curl curl
	curl -fsL --retry 2 --max-time 60 -o /dev/null "$ENBD_MIRROR/dists/trixie-backports/InRelease" ||
		die "the Debian mirror $ENBD_MIRROR cannot be reached (another one: ENBD_MIRROR=URL)"
}

# in_lab COMMAND...: runs COMMAND inside the lab.
in_lab() {
	"$ENBD_REPO/scripts/lab-run" "$@"
}
