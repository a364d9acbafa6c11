// SPDX-License-Identifier: GPL-2.0

//! What tests show: here, and those of tools/enbd-logic, which compile this file too.

use super::SettingsStatus;

/// What stands where nothing was set.
pub const SETTINGS: SettingsStatus = SettingsStatus {
    timeout: 30,
    connect_timeout: 10,
    show_errs: false,
    autoadd: true,
    resync_min: 0,
    resync_max: 0,
};
