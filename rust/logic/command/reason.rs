// SPDX-License-Identifier: GPL-2.0

//! Why a line is no command.

const E2BIG: i32 = 7;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const ENAMETOOLONG: i32 = 36;
const EILSEQ: i32 = 84;

/// Why a line is no command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The line is longer than [`MAX_LINE`](super::MAX_LINE).
    LineTooLong,
    /// A NUL byte stands in the line.
    EmbeddedNul,
    /// A control character other than a tab stands in the line.
    ControlCharacter,
    /// A byte above 127 stands in the line.
    NotAscii,
    /// Nothing but spaces and tabs.
    EmptyLine,
    /// Not of the form `verb[device]=value`.
    Malformed,
    /// What stands between the brackets is not one small letter.
    NoSuchDevice,
    /// No such verb.
    UnknownVerb,
    /// The value ends where a word must stand.
    ValueMissing,
    /// A word stands where the value must end.
    UnexpectedWord,
    /// A number is not made of decimal digits.
    NotANumber,
    /// A group is not below [`MAX_GROUPS`](crate::logic::MAX_GROUPS).
    GroupOutOfRange,
    /// A switch is neither 0 nor 1.
    SwitchOutOfRange,
    /// A number of channels is 0 or above
    /// [`MAX_CONNECT_CHANNELS`](super::MAX_CONNECT_CHANNELS).
    ChannelsOutOfRange,
    /// A blocksize is below [`MIN_BLOCKSIZE`](super::MIN_BLOCKSIZE) or above
    /// [`MAX_BLOCKSIZE`](super::MAX_BLOCKSIZE).
    BlocksizeOutOfRange,
    /// A blocksize in range is no power of two.
    BlocksizeNotPowerOfTwo,
    /// A timeout is 0 or above [`MAX_TIMEOUT_S`](super::MAX_TIMEOUT_S).
    TimeoutOutOfRange,
    /// A connect timeout is 0 or above
    /// [`MAX_CONNECT_TIMEOUT_S`](super::MAX_CONNECT_TIMEOUT_S).
    ConnectTimeoutOutOfRange,
    /// A resync speed does not fit in 32 bits.
    SpeedOutOfRange,
    /// A time between beats is above [`MAX_OWNER_CHECK_S`](super::MAX_OWNER_CHECK_S).
    OwnerCheckOutOfRange,
    /// Beyond `0..=u32::MAX`.
    IntentMaxOutOfRange,
    /// `compare` with a word that it does not know.
    CompareUnknown,
    /// Outside `1..=MAX_INTENT_IDLE_S`.
    IntentIdleOutOfRange,
    /// `reset` with 0.
    ResetNotOne,
    /// `connect` without an address.
    AddressMissing,
    /// An address that is neither `1.2.3.4[:port]`, `[v6][:port]` nor `unix:/path`.
    MalformedAddress,
    /// What stands behind the `%` of an address is no name of an interface.
    MalformedZone,
    /// A link-local address without a zone.
    ZoneMissing,
    /// A port is 0 or above 65535.
    PortOutOfRange,
    /// The path of a Unix socket does not start with `/`.
    PathNotAbsolute,
    /// The path of a Unix socket is longer than [`MAX_PATH`](super::MAX_PATH).
    PathTooLong,
    /// In a path or an export name a backslash is not followed by three octal digits that are a
    /// byte other than NUL.
    BadEscape,
    /// A name of a device is longer than [`MAX_LABEL`](super::MAX_LABEL), or none at all.
    BadLabel,
    /// `key=value` with a key that `connect` does not have.
    UnknownOption,
    /// An option stands twice.
    DuplicateOption,
    /// `meta` is neither `auto` nor `none`.
    BadMeta,
}

impl Reason {
    /// A short phrase for the log and `last error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LineTooLong => "line longer than 1024 bytes",
            Self::EmbeddedNul => "NUL byte in line",
            Self::ControlCharacter => "control character in line",
            Self::NotAscii => "character outside ASCII in line (names have octal escapes)",
            Self::EmptyLine => "empty line",
            Self::Malformed => "not of the form verb[device]=value",
            Self::NoSuchDevice => "no such device letter",
            Self::UnknownVerb => "unknown verb",
            Self::ValueMissing => "value missing",
            Self::UnexpectedWord => "unexpected word after value",
            Self::NotANumber => "not a decimal number",
            Self::GroupOutOfRange => "group out of range (0 to 7)",
            Self::SwitchOutOfRange => "switch out of range (0 or 1)",
            Self::ChannelsOutOfRange => "channels out of range (1 to 16)",
            Self::BlocksizeOutOfRange => "blocksize out of range (512 to 65536)",
            Self::BlocksizeNotPowerOfTwo => "blocksize not a power of two",
            Self::TimeoutOutOfRange => "timeout out of range (1 to 3600 seconds)",
            Self::ConnectTimeoutOutOfRange => "connect_timeout out of range (1 to 300 seconds)",
            Self::SpeedOutOfRange => "resync speed out of range (0 to 4294967295 KiB/s)",
            Self::OwnerCheckOutOfRange => "owner_check out of range (0 to 60 seconds)",
            Self::CompareUnknown => "compare takes 0, 1 or auto",
            Self::IntentMaxOutOfRange => "intent_max out of range (0 to 4294967295 MiB)",
            Self::IntentIdleOutOfRange => "intent_idle out of range (1 to 3600 seconds)",
            Self::ResetNotOne => "reset takes 1 only",
            Self::AddressMissing => "address missing",
            Self::MalformedAddress => "malformed address",
            Self::MalformedZone => "malformed interface name in address",
            Self::ZoneMissing => "link-local address without its interface ([fe80::1%eth0])",
            Self::PortOutOfRange => "port out of range (1 to 65535)",
            Self::PathNotAbsolute => "unix path not absolute",
            Self::PathTooLong => "unix path longer than 107 bytes",
            Self::BadEscape => "bad escape (a backslash takes three octal digits, 001 to 377)",
            Self::BadLabel => {
                "no name of a device (up to 64 letters, digits, dots, - and _, not one letter alone)"
            }
            Self::UnknownOption => "unknown option",
            Self::DuplicateOption => "option given twice",
            Self::BadMeta => "meta is auto or none",
        }
    }

    /// What the write fails with: a positive errno.
    pub fn errno(self) -> i32 {
        match self {
            Self::LineTooLong => E2BIG,
            Self::EmbeddedNul | Self::ControlCharacter | Self::NotAscii => EILSEQ,
            Self::NoSuchDevice => ENODEV,
            Self::GroupOutOfRange
            | Self::SwitchOutOfRange
            | Self::ChannelsOutOfRange
            | Self::BlocksizeOutOfRange
            | Self::TimeoutOutOfRange
            | Self::ConnectTimeoutOutOfRange
            | Self::SpeedOutOfRange
            | Self::OwnerCheckOutOfRange
            | Self::IntentMaxOutOfRange
            | Self::CompareUnknown
            | Self::IntentIdleOutOfRange
            | Self::PortOutOfRange => ERANGE,
            Self::PathTooLong => ENAMETOOLONG,
            Self::EmptyLine
            | Self::Malformed
            | Self::UnknownVerb
            | Self::ValueMissing
            | Self::UnexpectedWord
            | Self::NotANumber
            | Self::BlocksizeNotPowerOfTwo
            | Self::ResetNotOne
            | Self::AddressMissing
            | Self::MalformedAddress
            | Self::MalformedZone
            | Self::ZoneMissing
            | Self::PathNotAbsolute
            | Self::BadEscape
            | Self::BadLabel
            | Self::UnknownOption
            | Self::DuplicateOption
            | Self::BadMeta => EINVAL,
        }
    }
}
