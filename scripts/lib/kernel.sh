# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Debian's stock kernel: which one is the newest, where its parts are, and a tree that builds Rust modules for it.

# Smallest first. The first flavour that has all of KERNEL_NEEDS is taken.
KERNEL_FLAVOURS=(cloud-amd64 amd64)
KERNEL_NEEDS=(
	RUST BLK_DEV_NBD MD_RAID1 BLK_DEV_DRBD DM_LOG_WRITES DM_FLAKEY BLK_DEV_NULL_BLK BLK_DEV_RAM BLK_DEV_LOOP
	EXT4_FS XFS_FS BTRFS_FS NF_TABLES NET_SCH_NETEM NET_NS VETH ZRAM SWAP VIRTIO_BLK VIRTIO_CONSOLE
)

# To be raised when make_kernel_tree changes what it makes: older trees are then not used any more.
KERNEL_RECIPE=1

# Sources that no module and no host program of the build needs: two thirds of the tree.
KERNEL_UNNEEDED=(
	'*/Documentation/*.rst' '*/Documentation/*.yaml' '*/Documentation/*.svg' '*/tools/testing/*' '*/tools/perf/*'
	'*/arch/[!x]*/*.[chS]' '*/arch/[!x]*/*.dts*' '*/arch/xtensa/*.[chS]' '*/sound/*.[ch]'
	'*/drivers/'{gpu,net,media,staging,infiniband,scsi,usb,iio,pinctrl,clk,phy,crypto,accel,hwmon,soc}'/*.[ch]'
)

lab_apt() {
	in_lab "$@" 2>/dev/null
}

# remembered NAME COMMAND...: what COMMAND printed less than a day ago; an older answer if the mirror is away.
remembered() {
	local file=$ENBD_CACHE/known/$1 answer
	shift
	if [[ -z $(find "$file" -mtime -1 2>/dev/null) ]]; then
		if answer=$("$@") && [[ $answer ]]; then
			printf '%s\n' "$answer" >"$file.$$"
			mv "$file.$$" "$file"
		elif [[ -f $file ]]; then
			say "cannot look for a newer kernel: using what is in the cache"
		else
			return 1
		fi
	fi
	cat "$file"
}

update_lists() {
	check_mirror
	say "reading the package lists of $ENBD_MIRROR"
	with_lock apt in_lab apt-get -qq -o APT::Sandbox::User=root update >&2 ||
		die "the package lists of $ENBD_MIRROR cannot be read"
}

# releases_of FLAVOUR: all kernel releases in the archive, newest first.
releases_of() {
	lab_apt apt-cache pkgnames linux-headers- |
		sed -En "s/^linux-headers-([0-9][^-]*-$1)\$/\1/p" | sort -rV
}

# fetch_debs DIR PACKAGE=VERSION...: downloads and unpacks packages into DIR.
fetch_debs() {
	local dir=$1 deb
	shift
	mkdir -p "$dir/debs"
	# shellcheck disable=SC2016 # expanded by the inner shell
	in_lab bash -c 'cd "$1" && shift && apt-get -qq -o APT::Sandbox::User=root download "$@"' - "$dir/debs" "$@" ||
		die "cannot download $* from $ENBD_MIRROR"
	for deb in "$dir"/debs/*.deb; do
		in_lab dpkg-deb -x "$deb" "$dir"
	done
	rm -r "$dir/debs"
}

# version_of PACKAGE
version_of() {
	lab_apt apt-cache show --no-all-versions "$1" | sed -n 's/^Version: //p' || true
}

# lacks CONFIG: the first of KERNEL_NEEDS that a kernel's .config has not.
lacks() {
	local option
	for option in "${KERNEL_NEEDS[@]}"; do
		grep -q "^CONFIG_$option=[ym]" "$1" || { echo "CONFIG_$option" && return; }
	done
}

# newest_release: the newest kernel release of the smallest flavour that has what the tests need.
newest_release() {
	local flavour release dir missing
	update_lists
	dir=$(mktemp -d "$ENBD_CACHE/run/headers.XXXXXX")
	for flavour in "${KERNEL_FLAVOURS[@]}"; do
		release=$(releases_of "$flavour" | head -n 1)
		[[ $release ]] || continue
		fetch_debs "$dir" "linux-headers-$release" >&2
		missing=$(lacks "$dir/usr/src/linux-headers-$release/.config")
		[[ $missing ]] || break
		say "kernel $release will not do: it has no $missing"
		release=
	done
	rm -r "$dir"
	[[ $release ]] || die "no kernel in $ENBD_MIRROR (trixie, trixie-backports) has all that is needed"
	printf '%s %s\n' "$release" "$(version_of "linux-headers-$release")"
}

# named_release RELEASE
named_release() {
	local version
	version=$(version_of "linux-headers-$1")
	if [[ ! $version ]]; then
		update_lists
		version=$(version_of "linux-headers-$1")
	fi
	[[ $version ]] || die "$ENBD_MIRROR has no linux-headers-$1; the newest it has are: $(newest_names)"
	printf '%s %s\n' "$1" "$version"
}

newest_names() {
	local flavour
	for flavour in "${KERNEL_FLAVOURS[@]}"; do
		releases_of "$flavour" | head -n 1
	done | paste -sd ' '
}

# choose_kernel [RELEASE]: sets RELEASE and VERSION (Debian's, with the revision).
choose_kernel() {
	local answer
	ensure_lab
	if [[ ${1:-} ]]; then
		answer=$(remembered "release-$1" named_release "$1") || exit 1
	else
		answer=$(remembered newest newest_release) || exit 1
	fi
	read -r RELEASE VERSION <<<"$answer"
}

# kernel_tree: where the build tree of RELEASE is, or will be.
kernel_tree() {
	local key
	key=$( (printf '%s\n' "${KERNEL_UNNEEDED[@]}" "${LAB##*/}" "$KERNEL_RECIPE") | sha256sum | cut -c 1-8)
	printf '%s/linux-%s_%s-%s\n' "$ENBD_CACHE" "$RELEASE" "${VERSION//:/}" "$key"
}

ensure_kernel_tree() {
	KDIR=$(kernel_tree)
	[[ -d $KDIR ]] || need_root
	cached "$KDIR" make_kernel_tree
}

make_kernel_tree() {
	local dir=$1 source headers=$1.headers
	need_space 2000 "a kernel build tree"
	source=linux-source-$(cut -d . -f 1,2 <<<"$RELEASE")
	progress "fetching linux-headers-$RELEASE, $VERSION" fetch_debs "$headers" "linux-headers-$RELEASE=$VERSION"
	check_config "$headers/usr/src/linux-headers-$RELEASE/.config"
	progress "fetching $source, $VERSION" fetch_debs "$headers" "$source=$VERSION"
	progress "unpacking $source" unpack_source "$headers/usr/src/$source.tar.xz" "$dir"
	cp "$headers/usr/src/linux-headers-$RELEASE/"{.config,Module.symvers} "$dir"
	rm -rf "$headers"
	progress "preparing the build tree of $RELEASE (2 to 4 minutes)" \
		in_lab make -C "$dir" CC="$COMPILER" KERNELRELEASE="$RELEASE" -j"$(nproc)" modules_prepare
	check_tree "$dir"
	# Also read by make, so: NAME=value, no quotes.
	printf '%s\n' "ENBD_RELEASE=$RELEASE" "ENBD_VERSION=$VERSION" "ENBD_CC=$COMPILER" >"$dir/.enbd-lab"
}

unpack_source() {
	local -a unneeded=("${KERNEL_UNNEEDED[@]/#/--exclude=}")
	in_lab tar --extract --xz --file "$1" --directory "$2" --strip-components=1 --no-same-owner \
		--wildcards "${unneeded[@]}"
}

# check_config CONFIG: can this kernel take Rust modules, and has the lab the compilers that it was built with?
check_config() {
	local rustc
	grep -q '^CONFIG_RUST=y' "$1" || no_rust "$RELEASE"
	COMPILER=$(sed -En 's/^CONFIG_CC_VERSION_TEXT="([^ ]+) .*/\1/p' "$1")
	in_lab which "$COMPILER" >/dev/null || die "kernel $RELEASE was built by $COMPILER, which the lab has not"
	rustc=$(sed -En 's/^CONFIG_RUSTC_VERSION_TEXT="(.*)"/\1/p' "$1")
	[[ $rustc == "$(in_lab rustc --version)" ]] ||
		die "kernel $RELEASE was built by $rustc, the lab has $(in_lab rustc --version)"
}

# no_rust RELEASE: what to do then.
no_rust() {
	die "kernel $1 was built without CONFIG_RUST: it cannot take a Rust module. The kernel of Debian 13's backports can:"$'\n' \
		"   echo 'deb $ENBD_MIRROR trixie-backports main' >/etc/apt/sources.list.d/backports.list"$'\n' \
		"   apt update && apt install -t trixie-backports linux-image-amd64 && reboot"
}

# check_tree DIR: has the tree kept CONFIG_RUST, and does it export the Rust symbols that the stock kernel exports?
check_tree() {
	local missing
	grep -q '^CONFIG_RUST=y' "$1/include/config/auto.conf" ||
		die "the build tree of $RELEASE lost CONFIG_RUST: 'make rustavailable' in $1 says why"
	missing=$(comm -23 <(rust_exports "$1") <(cut -f 2 "$1/Module.symvers" | sort -u) | wc -l)
	((missing == 0)) || die "the build tree of $RELEASE has $missing Rust symbols that the stock kernel has not"
	say "$(rust_exports "$1" | wc -l) Rust symbols, all exported by the stock kernel"
}

rust_exports() {
	sed -En 's/^EXPORT_SYMBOL_RUST_GPL\((.*)\);/\1/p' "$1"/rust/exports_*_generated.h | sort -u
}
