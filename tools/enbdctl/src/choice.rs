// SPDX-License-Identifier: GPL-2.0

//! What `enbdctl create` finds on the exports, and whose data counts: that is said, asked on a terminal,
//! or refused. Nothing is guessed, and nothing is overwritten that nobody has spoken of.

use crate::found::{member_words, was_never_started, End, Found};
use crate::offer::{content_words, Offer};
use crate::problem::{Exit, Problem};
use crate::size::bytes;
use enbd_logic::logic::meta::layout::LEAST_EXPORT;
use enbd_logic::logic::meta::Layout;
use std::fmt::Write;
use std::io::{self, IsTerminal};

/// Whose data counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Data {
    /// That of this group; the others get all of it.
    Of(u8),
    /// All groups hold the same.
    Equal,
    /// Nobody's. The others get what group 0 has all the same, so that all hold the same.
    Nobody,
}

impl Data {
    /// The group that the others are copied from, or are equal to.
    pub fn source(self) -> u8 {
        match self {
            Self::Of(group) => group,
            Self::Equal | Self::Nobody => 0,
        }
    }
}

/// How much may be done without asking.
#[derive(Clone, Copy, Debug)]
pub struct Consent {
    /// What is overwritten has been agreed to.
    pub yes: bool,
    /// Metadata, and what is in its place, may be overwritten.
    pub force: bool,
}

/// Whether each export may be a group. Gives whether metadata has to be overwritten.
///
/// # Errors
///
/// Which may not, and why.
pub fn check(offers: &[Offer], block: u64, consent: Consent) -> Result<bool, Problem> {
    let mut anew = consent.force;
    for (group, offer) in offers.iter().enumerate() {
        let refused = |why: &str, hint: String| {
            let what = format!("group {group}, {}: {why}", offer.uri);
            Err(Problem::new(Exit::Refused, what).hint(hint))
        };
        let by_force = "--force overwrites it".to_owned();
        if offer.found.export.flags.read_only() {
            return refused("the server takes no writes", "have it write".to_owned());
        }
        match &offer.found.end {
            End::Blank => {}
            End::TooSmall => {
                let least = bytes(LEAST_EXPORT);
                return refused(
                    "it is too small for metadata",
                    format!("an export has {least} at least"),
                );
            }
            End::Member(superblock) if was_never_started(superblock) => anew = true,
            _ if consent.force => {}
            End::Used => {
                let area = area_of(&offer.found, block);
                let hint = format!(
                    "the mirror needs the last {} of each export: grow it by that; {by_force}",
                    bytes(area)
                );
                return refused("its end is in use", hint);
            }
            End::Damaged(bad) => return refused(bad.as_str(), by_force),
            End::Member(superblock) => {
                let why = format!("it is {}", member_words(superblock));
                let hint = format!(
                    "a mirror that is there is started with a configuration, see man enbdctl; {by_force}, and that mirror has it no more"
                );
                return refused(&why, hint);
            }
        }
    }
    Ok(anew)
}

/// Fails if an export holds something else than when it was looked at before: what may be overwritten
/// was said of that.
///
/// # Errors
///
/// Which one does.
pub fn check_same(before: &[Offer], now: &[Offer]) -> Result<(), Problem> {
    let differs = |(one, other): &(&Offer, &Offer)| {
        one.found.head != other.found.head
            || one.found.export != other.found.export
            || content_words(&one.found) != content_words(&other.found)
    };
    match before.iter().zip(now).find(differs) {
        None => Ok(()),
        Some((offer, _)) => {
            let what = format!("{}: what is on it has changed meanwhile", offer.uri);
            let hint = "whoever uses it has to stop before; then again";
            Err(Problem::new(Exit::Refused, what).hint(hint))
        }
    }
}

/// Bytes that the metadata takes.
fn area_of(found: &Found, block: u64) -> u64 {
    Layout::of_export(found.export.size, block).map_or(0, |layout| layout.area_bytes)
}

/// Fails if what is on the source would not fit into the device, which is smaller than the exports.
///
/// # Errors
///
/// By how much the exports have to grow.
pub fn check_room(offers: &[Offer], block: u64, data: Data, force: bool) -> Result<(), Problem> {
    let layouts = offers
        .iter()
        .filter_map(|offer| Layout::of_export(offer.found.export.size, block));
    let Some(device) = layouts.map(|layout| layout.device_bytes).min() else {
        return Ok(());
    };
    let source = offers.get(usize::from(data.source()));
    let used = source.and_then(|offer| Some((offer, offer.found.filled?)));
    match used.filter(|(_, used)| *used > device && data != Data::Nobody && !force) {
        None => Ok(()),
        Some((offer, used)) => {
            let content = offer.found.content.as_deref().unwrap_or("what is on it");
            let what = format!(
                "{}: {content} fills {}, and the mirror has {} of it",
                offer.uri,
                bytes(used),
                bytes(device)
            );
            let more = bytes(used.saturating_sub(device));
            let hint = format!(
                "grow all exports by {more} at least, or make the file system smaller, before"
            );
            Err(Problem::new(Exit::Refused, what).hint(hint))
        }
    }
}

/// Whose data counts: as was said, or as is said now.
///
/// # Errors
///
/// Nobody says it, or it is known to be wrong.
pub fn decide(
    offers: &[Offer],
    said: Option<Data>,
    consent: Consent,
    ask: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<Data, Problem> {
    let groups = offers.len();
    if let Some(Data::Of(group)) = said.filter(|said| usize::from(said.source()) >= groups) {
        let what = format!("there is no group {group}");
        let hint = format!("they are 0 to {}", groups.saturating_sub(1));
        return Err(Problem::new(Exit::Usage, what).hint(hint));
    }
    if groups == 1 {
        return Ok(said.unwrap_or(Data::Of(0)));
    }
    let all_empty = offers.iter().all(|offer| offer.found.content.is_none());
    let data = match said {
        Some(data) => data,
        // Nobody has been asked yet: the question below is one.
        None if all_empty && !consent.yes => Data::Nobody,
        None => asked(offers, ask)?,
    };
    if data == Data::Equal {
        return match begin_alike(offers) {
            true => Ok(data),
            false => Err(Problem::new(
                Exit::Refused,
                "the groups are not equal: they begin differently",
            )
            .hint("--source GROUP says which one has the data")),
        };
    }
    if consent.yes {
        return Ok(data);
    }
    let (source, mut others) = (data.source(), String::new());
    for group in (0..groups).filter(|&group| group != usize::from(source)) {
        let comma = if others.is_empty() { "" } else { ", " };
        let _ = write!(others, "{comma}{group}");
    }
    let noun = if groups == 2 { "Group" } else { "Groups" };
    let question =
        format!("{noun} {others} will be overwritten with group {source}. Proceed? [y/N] ");
    match ask(&question) {
        None if said.is_none() => Err(unspoken()),
        None => Err(unsaid("what is overwritten has to be agreed to", "--yes")),
        Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => Ok(data),
        Some(_) => Err(Problem::new(Exit::Refused, "nothing was done")),
    }
}

/// Asks whose data counts.
fn asked(offers: &[Offer], ask: &mut dyn FnMut(&str) -> Option<String>) -> Result<Data, Problem> {
    let numbers: Vec<String> = (0..offers.len()).map(|group| group.to_string()).collect();
    let words = match begin_alike(offers) {
        true => "The groups begin alike.",
        false => "The groups differ.",
    };
    let question = format!(
        "{words} Which one has the data? [{}/none/equal, abort] ",
        numbers.join("/")
    );
    let Some(answer) = ask(&question) else {
        return Err(unspoken());
    };
    match answer.as_str() {
        "none" => Ok(Data::Nobody),
        "equal" => Ok(Data::Equal),
        number if numbers.iter().any(|known| known == number) => {
            Ok(Data::Of(number.parse().unwrap_or(0)))
        }
        _ => Err(Problem::new(Exit::Refused, "nothing was done")),
    }
}

fn begin_alike(offers: &[Offer]) -> bool {
    let mut heads = offers.iter().map(|offer| &offer.found.head);
    let first = heads.next();
    heads.all(|head| Some(head) == first)
}

/// Nobody says whose data counts.
fn unspoken() -> Problem {
    unsaid(
        "which group has the data has to be said",
        "--source GROUP, --equal if they hold the same, --empty if nothing is to be kept; with --yes",
    )
}

fn unsaid(what: &str, hint: &str) -> Problem {
    Problem::new(Exit::Refused, format!("this is no terminal, and {what}")).hint(hint)
}

/// Asks on the terminal; nothing where there is none.
pub fn on_terminal(question: &str) -> Option<String> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    crate::print(question);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{check, check_room, check_same, decide, Consent, Data};
    use crate::found::{End, Found};
    use crate::offer::{table, Offer};
    use crate::problem::Exit;
    use crate::uri::Uri;
    use enbd_logic::logic::wire::handshake::{BlockSizes, Export, TransmissionFlags};

    const ASKED: Consent = Consent {
        yes: false,
        force: false,
    };
    const AGREED: Consent = Consent {
        yes: true,
        force: false,
    };

    fn offer(host: &str, content: Option<&str>) -> Offer {
        Offer {
            uri: Uri::parse(&format!("nbd://{host}/disk")).expect("a URI"),
            found: Found {
                address: None,
                export: Export {
                    size: 64 << 30,
                    flags: TransmissionFlags::from_bits(0b1_0110_1101),
                    block: BlockSizes::DEFAULT,
                },
                head: content.unwrap_or("").into(),
                content: content.map(str::to_owned),
                kind: None,
                filled: None,
                end: End::Blank,
            },
        }
    }

    fn two() -> Vec<Offer> {
        let content = "ext4 \"srv\" (b1946ac9-25c0-4f36-9a0e-1f7d2b1f4c55)";
        vec![
            offer("192.0.2.1", Some(content)),
            offer("beta.example.org", None),
        ]
    }

    #[test]
    fn a_line_an_export() {
        assert_eq!(
            table(&two()),
            "group 0  nbd://192.0.2.1/disk         64.0 GiB, FLUSH FUA TRIM ZEROES MULTI_CONN   \
             holds ext4 \"srv\" (b1946ac9-25c0-4f36-9a0e-1f7d2b1f4c55)\n\
             group 1  nbd://beta.example.org/disk  64.0 GiB, FLUSH FUA TRIM ZEROES MULTI_CONN   \
             empty (first 1 MiB zero)\n"
        );
    }

    /// Decides with these answers; gives the questions, too.
    fn with(
        offers: &[Offer],
        said: Option<Data>,
        consent: Consent,
        answers: &[&str],
    ) -> (Result<Data, String>, Vec<String>) {
        let mut questions = Vec::new();
        let mut left = answers.iter();
        let data = decide(offers, said, consent, &mut |question| {
            questions.push(question.to_owned());
            left.next().map(|&answer| answer.to_owned())
        });
        (data.map_err(|problem| problem.to_string()), questions)
    }

    #[test]
    fn questions_and_answers() {
        let which =
            "The groups differ. Which one has the data? [0/1/none/equal, abort] ".to_owned();
        let proceed = |one, other| {
            format!("Group {one} will be overwritten with group {other}. Proceed? [y/N] ")
        };
        let (data, questions) = with(&two(), None, ASKED, &["0", "y"]);
        assert_eq!(data, Ok(Data::Of(0)));
        assert_eq!(questions, [which.clone(), proceed(1, 0)]);
        let (data, questions) = with(&two(), None, ASKED, &["1", ""]);
        assert_eq!(data, Err("nothing was done".to_owned()));
        assert_eq!(questions, [which.clone(), proceed(0, 1)]);
        for answer in ["abort", "", "7", "00"] {
            let (data, _) = with(&two(), None, ASKED, &[answer]);
            assert_eq!(data, Err("nothing was done".to_owned()), "{answer}");
        }
        assert_eq!(
            with(&two(), None, ASKED, &["none", "yes"]).0,
            Ok(Data::Nobody)
        );
        let (data, questions) = with(&two(), Some(Data::Of(1)), AGREED, &[]);
        assert_eq!((data, questions.len()), (Ok(Data::Of(1)), 0));
        let (data, _) = with(&two(), Some(Data::Of(2)), AGREED, &[]);
        assert_eq!(
            data,
            Err("there is no group 2\n  hint: they are 0 to 1".to_owned())
        );
        let empty = [offer("h", None), offer("i", None)];
        let (data, questions) = with(&empty, None, ASKED, &["y"]);
        assert_eq!((data, questions), (Ok(Data::Nobody), vec![proceed(1, 0)]));
        assert_eq!(with(&two()[..1], None, ASKED, &[]).0, Ok(Data::Of(0)));
        let (data, _) = with(&two()[..1], Some(Data::Of(1)), AGREED, &[]);
        assert!(data.expect_err("it is alone").contains("no group 1"));
    }

    #[test]
    fn nobody_is_there_to_ask() {
        let empty = [offer("h", None), offer("i", None)];
        for offers in [&two()[..], &empty] {
            let (data, _) = with(offers, None, AGREED, &[]);
            let why = data.expect_err("nobody says it");
            assert!(
                why.contains("which group has the data has to be said"),
                "{why}"
            );
            let (data, _) = with(offers, Some(Data::Of(0)), ASKED, &[]);
            assert!(data.expect_err("nobody agrees").contains("hint: --yes"));
        }
        let (data, _) = with(&two(), Some(Data::Equal), AGREED, &[]);
        assert!(data
            .expect_err("they differ")
            .contains("they begin differently"));
        assert_eq!(
            with(&empty, Some(Data::Equal), ASKED, &[]).0,
            Ok(Data::Equal)
        );
    }

    #[test]
    fn exports_that_may_be_none() {
        let refused = |change: &dyn Fn(&mut Offer), consent| {
            let mut offers = two();
            offers.iter_mut().skip(1).for_each(change);
            check(&offers, 4096, consent).map_err(|problem| (problem.exit, problem.to_string()))
        };
        assert_eq!(refused(&|_| {}, ASKED), Ok(false));
        let force = Consent {
            force: true,
            ..ASKED
        };
        assert_eq!(
            refused(&|offer| offer.found.end = End::Used, force),
            Ok(true)
        );
        let (exit, why) = refused(&|offer| offer.found.end = End::Used, ASKED).expect_err("in use");
        assert_eq!(exit, Exit::Refused);
        assert!(why.contains("the last 2.0 MiB of each export"), "{why}");
        for consent in [ASKED, force] {
            let small = refused(&|offer| offer.found.end = End::TooSmall, consent);
            assert!(small.expect_err("small").1.contains("8.0 MiB at least"));
        }
        let bits = TransmissionFlags::from_bits(3);
        let read_only = refused(&|offer| offer.found.export.flags = bits, force);
        assert!(read_only
            .expect_err("read only")
            .1
            .contains("takes no writes"));
    }

    #[test]
    fn what_changes_while_it_is_asked() {
        assert!(check_same(&two(), &two()).is_ok());
        let changes: [&dyn Fn(&mut Found); 3] = [
            &|found| found.head = b"x".into(),
            &|found| found.export.size = 1 << 30,
            &|found| found.end = End::Used,
        ];
        for change in changes {
            let mut now = two();
            now.iter_mut()
                .skip(1)
                .for_each(|one| change(&mut one.found));
            let why = check_same(&two(), &now).expect_err("it has changed");
            assert!(why.what.starts_with("nbd://beta.example.org/disk: "));
        }
    }

    #[test]
    fn the_server_that_was_looked_at() {
        let mut offers = two();
        for offer in &mut offers {
            offer.found.address = Some("192.0.2.7".parse().expect("an address"));
        }
        let servers: Vec<String> = offers.iter().map(|one| one.server().to_string()).collect();
        assert_eq!(servers, ["nbd://192.0.2.1/disk", "nbd://192.0.2.7/disk"]);
    }

    #[test]
    fn a_file_system_that_fills_its_export() {
        let mut offers = two();
        assert!(check_room(&offers, 4096, Data::Of(0), false).is_ok());
        offers[0].found.filled = Some(64 << 30);
        let why = check_room(&offers, 4096, Data::Of(0), false).expect_err("full");
        assert!(
            why.to_string().contains("grow all exports by 2.0 MiB"),
            "{why}"
        );
        for (data, force) in [
            (Data::Of(1), false),
            (Data::Nobody, false),
            (Data::Of(0), true),
        ] {
            assert!(check_room(&offers, 4096, data, force).is_ok());
        }
    }
}
