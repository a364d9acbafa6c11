// SPDX-License-Identifier: GPL-2.0

//! `/etc/enbd/monitor.toml`: whom the monitor tells of alarms, besides the journal. It need not be
//! there, and nothing has to be in it. As strict as the configuration of a device.

use crate::places::{read_text, Places};
use crate::problem::{Exit, Problem};
use crate::toml_text::Source;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// What the file is called, so no device can be.
pub const STEM: &str = "monitor";

const KEYS: [&str; 6] = ["mail", "sendmail", "exec", "timeout", "remind", "metrics"];

/// Hours between two alarms of one trouble.
const REMIND_H: i64 = 24;
/// Seconds that a program may take.
const TIMEOUT_S: i64 = 30;

/// What is wished.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MonitorConfig {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// To whom an alarm is mailed.
    pub mail: Option<String>,
    /// The program that takes mail, and its words before the address.
    pub sendmail: Vec<String>,
    /// The program that is run for an alarm, and its words.
    pub exec: Option<Vec<String>>,
    /// How long a program may take.
    pub timeout: Duration,
    /// When an alarm is given again; never if none.
    pub remind: Option<Duration>,
    /// Where metrics are written.
    pub metrics: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mail: Option<Spanned<String>>,
    sendmail: Option<Spanned<Vec<String>>>,
    exec: Option<Spanned<Vec<String>>>,
    timeout: Option<Spanned<i64>>,
    remind: Option<Spanned<i64>>,
    metrics: Option<Spanned<String>>,
}

impl MonitorConfig {
    /// Reads the file; without one there is neither mail nor a program.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is wrong.
    pub fn load(places: &Places) -> Result<Self, Problem> {
        let path = places.etc.join(STEM).with_extension("toml");
        match read_text(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(problem) if problem.exit == Exit::NotThere => {
                let mut wishes = Self::parse(&path, "")?;
                wishes.path = None;
                Ok(wishes)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Takes the text of the file apart.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and the near word; exit status 4.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source { path, text };
        let file: File = toml::from_str(text).map_err(|error| source.syntax(&error, &KEYS))?;
        let sendmail = command(&source, "sendmail", file.sendmail)?;
        let most_h = i64::from(u16::MAX);
        let remind = number(&source, "remind", file.remind, (0, most_h), REMIND_H)?;
        let timeout = number(&source, "timeout", file.timeout, (1, 3600), TIMEOUT_S)?;
        Ok(Self {
            path: Some(path.to_owned()),
            mail: mail(&source, file.mail)?,
            sendmail: sendmail
                .unwrap_or_else(|| vec!["/usr/sbin/sendmail".to_owned(), "-i".to_owned()]),
            exec: command(&source, "exec", file.exec)?,
            timeout: Duration::from_secs(timeout),
            remind: (remind > 0).then(|| Duration::from_secs(remind.saturating_mul(3600))),
            metrics: metrics(&source, file.metrics)?,
        })
    }

    /// A line for `config check`; none without a file.
    pub fn summary(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        let words: Vec<String> = [
            self.mail.as_ref().map(|to| format!("mail to {to}")),
            self.exec.as_ref().map(|words| words.join(" ")),
            self.metrics
                .as_ref()
                .map(|path| format!("metrics in {}", path.display())),
        ]
        .into_iter()
        .flatten()
        .collect();
        let told = match words.as_slice() {
            [] => "the journal alone".to_owned(),
            words => words.join(", "),
        };
        Some(format!("{}: {told}\n", path.display()))
    }
}

/// One address, which sendmail cannot take for an option or for several.
fn mail(source: &Source<'_>, mail: Option<Spanned<String>>) -> Result<Option<String>, Problem> {
    let Some(mail) = mail else {
        return Ok(None);
    };
    let text = mail.get_ref();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b",;<>()\"\\|".contains(&byte);
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
        let why = format!("mail: {text:?} is no address");
        let hint =
            "\"root\", or \"admin@example.org\"; an alias of the mail server for more".to_owned();
        return Err(source.wrong(mail.span(), &why, Some(hint)));
    }
    Ok(Some(text.clone()))
}

/// A program by its whole path, and its words: there is no shell that would look for it or take a line
/// apart.
fn command(
    source: &Source<'_>,
    key: &str,
    words: Option<Spanned<Vec<String>>>,
) -> Result<Option<Vec<String>>, Problem> {
    let Some(words) = words else {
        return Ok(None);
    };
    let has_nul = words.get_ref().iter().any(|word| word.contains('\0'));
    let program = words.get_ref().first().filter(|_| !has_nul);
    if !program.is_some_and(|program| Path::new(program).is_absolute()) {
        let why = format!("{key}: the path of a program has to come first, whole");
        let hint = format!("{key} = [\"/usr/local/bin/alarm\", \"word\"], which no shell reads");
        return Err(source.wrong(words.span(), &why, Some(hint)));
    }
    Ok(Some(words.into_inner()))
}

fn number(
    source: &Source<'_>,
    key: &str,
    value: Option<Spanned<i64>>,
    (least, most): (i64, i64),
    default: i64,
) -> Result<u64, Problem> {
    let given = value.as_ref().map_or(default, |value| *value.get_ref());
    match u64::try_from(given) {
        Ok(number) if (least..=most).contains(&given) => Ok(number),
        _ => {
            let span = value.map_or(0..0, |value| value.span());
            Err(source.wrong(span, &format!("{key}: {least} to {most}"), None))
        }
    }
}

fn metrics(source: &Source<'_>, path: Option<Spanned<String>>) -> Result<Option<PathBuf>, Problem> {
    let Some(path) = path else {
        return Ok(None);
    };
    let file = Path::new(path.get_ref());
    if !file.is_absolute() || file.file_name().is_none() || path.get_ref().contains('\0') {
        let hint = "metrics = \"/var/lib/prometheus/node-exporter/enbd.prom\"".to_owned();
        return Err(source.wrong(
            path.span(),
            "metrics: the path of a file, whole",
            Some(hint),
        ));
    }
    Ok(Some(file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::MonitorConfig;
    use std::path::Path;
    use std::time::Duration;

    fn parse(text: &str) -> Result<MonitorConfig, String> {
        MonitorConfig::parse(Path::new("/etc/enbd/monitor.toml"), text).map_err(|p| p.to_string())
    }

    #[test]
    fn nothing_has_to_be_there() {
        for text in ["", "\u{feff}# Nothing yet.\r\n"] {
            let wishes = parse(text).expect("nothing is no error");
            assert_eq!(
                (&wishes.mail, &wishes.exec, &wishes.metrics),
                (&None, &None, &None)
            );
            assert_eq!(wishes.remind, Some(Duration::from_secs(86400)));
            assert_eq!(wishes.timeout, Duration::from_secs(30));
        }
    }

    #[test]
    fn a_whole_file() {
        let wishes = parse(
            "mail = \"root\"\nexec = [\"/usr/bin/logger\", \"a b\"]\ntimeout = 5\nremind = 0\n\
             metrics = \"/run/enbd.prom\"\nsendmail = [\"/usr/bin/msmtp\"]\n",
        )
        .expect("a good file");
        assert_eq!(
            wishes.exec,
            Some(vec!["/usr/bin/logger".to_owned(), "a b".to_owned()])
        );
        assert_eq!(
            (wishes.remind, wishes.timeout),
            (None, Duration::from_secs(5))
        );
        assert_eq!(wishes.sendmail, ["/usr/bin/msmtp"]);
        let summary = wishes.summary().expect("there is a file");
        assert_eq!(
            summary,
            "/etc/enbd/monitor.toml: mail to root, /usr/bin/logger a b, metrics in /run/enbd.prom\n"
        );
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (text, error) in [
            (
                "\nmial = \"root\"",
                "monitor.toml:2:1: there is no key \"mial\" here\n  hint: perhaps mail",
            ),
            ("mail = 7", "monitor.toml:1:8: invalid type"),
            ("mail = ", "monitor.toml:1:8: "),
            ("mail = \"\"", "monitor.toml:1:8: mail: \"\" is no address"),
            ("mail = \"-f x\"", "mail: \"-f x\" is no address"),
            ("mail = \"a,b\"", "is no address"),
            ("mail = \"a\\nBcc: b\"", "is no address"),
            (
                "  exec = []",
                "monitor.toml:1:10: exec: the path of a program has to come first",
            ),
            ("exec = [\"logger\"]", "monitor.toml:1:8: exec: the path"),
            (
                "exec = [\"/x\", \"\\u0000\"]",
                "monitor.toml:1:8: exec: the path",
            ),
            ("exec = \"/bin/sh -c x\"", "monitor.toml:1:8: invalid type"),
            ("timeout = 0", "monitor.toml:1:11: timeout: 1 to 3600"),
            ("remind = -1", "monitor.toml:1:10: remind: 0 to 65535"),
            (
                "metrics = \"enbd.prom\"",
                "monitor.toml:1:11: metrics: the path of a file",
            ),
            ("metrics = \"/\"", "metrics: the path of a file"),
        ] {
            let told = parse(text).expect_err(text);
            assert!(told.contains(error), "{text}: {told}");
        }
    }
}
