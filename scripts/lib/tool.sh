# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# enbdctl, built in the lab.

# build_tool PROFILE: dev or release. What is up to date is not built again.
build_tool() {
	"$ENBD_REPO/scripts/lab-run" cargo build --manifest-path "$ENBD_REPO/tools/Cargo.toml" -p enbdctl --locked \
		--quiet --profile "$1"
}

# tool_program PROFILE: where it is then.
tool_program() {
	local directory=$1
	[[ $1 != dev ]] || directory=debug
	echo "$ENBD_CACHE/target/$(repo_key)/$directory/enbdctl"
}
