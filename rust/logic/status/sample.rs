// SPDX-License-Identifier: GPL-2.0

//! What tests show: here, and those of tools/enbd-logic, which compile this file too.

use super::{Compare, SettingsStatus};

/// What stands where nothing was set.
pub const SETTINGS: SettingsStatus = SettingsStatus {
    timeout: 30,
    connect_timeout: 10,
    show_errs: false,
    autoadd: true,
    resync_min: 0,
    resync_max: 0,
    compare: Compare::Auto,
    owner_check: 5,
    intent: true,
    intent_max: 0,
    intent_idle: 30,
};
