//! Faults that a test can switch on: which there are, whom they concern, when they end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ids::PhoneNumber;

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Close the connections, and with a duration keep new ones out for so long.
    DropConnection,
    /// Route the client's messages but do not acknowledge them.
    MuteAcks,
    /// Ignore the client's acknowledgements of messages.
    MuteReceipts,
    /// Refuse the client's messages with an error code.
    Nack,
    /// Refuse the client's messages with buttons or lists of WhatsApp's own.
    RefuseNative,
    /// Send what is queued again on the live connections.
    RedeliverUnacked,
    /// Tell the clients that another one took their place, and close.
    StreamReplaced,
    /// Unlink the devices.
    LoggedOut,
    /// Delay every stanza to the clients.
    Delay,
    /// Refuse logins with a `<failure>`.
    RefuseLogin,
    /// Give no pairing code.
    RefusePairCode,
    /// Answer no look-up of a number.
    RefuseLookups,
    /// Give a device that wants to be linked so many QR codes, and no more.
    FewCodes,
    /// Refuse every download with a status.
    MediaRefused,
    /// Tell the clients that files are on another host.
    MediaHost,
    /// The phone does not upload a file again: it says nothing, or that it has none.
    MediaRetry,
    /// Refuse every upload with a status, or the next ones.
    UploadRefused,
    /// Answer no upload until the fault is over; with `from_bytes`, none of so many bytes or more.
    UploadSlow,
    /// The first half of an upload comes, and it is answered with a status.
    UploadHalf,
    /// Nobody's keys are handed out.
    NoKeys,
    /// Questions for keys are refused.
    RefuseKeys,
    /// The owner tells nobody what is read.
    HideReads,
    /// Nothing is heard and nothing is said, on connections that stay open.
    Silence,
    /// What devices send is lost on its way, without a word.
    LoseMessages,
    /// A device that logs in leaves its older connection alone.
    TwoAtOnce,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 25] = [
        Self::DropConnection,
        Self::MuteAcks,
        Self::MuteReceipts,
        Self::Nack,
        Self::RefuseNative,
        Self::RedeliverUnacked,
        Self::StreamReplaced,
        Self::LoggedOut,
        Self::Delay,
        Self::RefuseLogin,
        Self::RefusePairCode,
        Self::RefuseLookups,
        Self::FewCodes,
        Self::MediaRefused,
        Self::MediaHost,
        Self::MediaRetry,
        Self::UploadRefused,
        Self::UploadSlow,
        Self::UploadHalf,
        Self::NoKeys,
        Self::RefuseKeys,
        Self::HideReads,
        Self::Silence,
        Self::LoseMessages,
        Self::TwoAtOnce,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DropConnection => "drop_connection",
            Self::MuteAcks => "mute_acks",
            Self::MuteReceipts => "mute_receipts",
            Self::Nack => "nack",
            Self::RefuseNative => "refuse_native",
            Self::RedeliverUnacked => "redeliver_unacked",
            Self::StreamReplaced => "stream_replaced",
            Self::LoggedOut => "logged_out",
            Self::Delay => "delay",
            Self::RefuseLogin => "refuse_login",
            Self::RefusePairCode => "refuse_pair_code",
            Self::RefuseLookups => "refuse_lookups",
            Self::FewCodes => "few_codes",
            Self::MediaRefused => "media_refused",
            Self::MediaHost => "media_host",
            Self::MediaRetry => "media_retry",
            Self::UploadRefused => "upload_refused",
            Self::UploadSlow => "upload_slow",
            Self::UploadHalf => "upload_half",
            Self::NoKeys => "no_keys",
            Self::RefuseKeys => "refuse_keys",
            Self::HideReads => "hide_reads",
            Self::Silence => "silence",
            Self::LoseMessages => "lose_messages",
            Self::TwoAtOnce => "two_at_once",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the fault stays until its time is over or it is cleared. The others happen at once;
    /// `drop_connection` does both if it is given a duration.
    pub(crate) fn lasts(self) -> bool {
        !matches!(
            self,
            Self::DropConnection | Self::RedeliverUnacked | Self::StreamReplaced | Self::LoggedOut
        )
    }
}

/// A fault that is on.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Whom it concerns; every account when absent.
    pub(crate) account: Option<PhoneNumber>,
    /// When it ends; when cleared if absent.
    pub(crate) until: Option<Instant>,
    /// The error code of a nack.
    pub(crate) code: u16,
    /// How late stanzas are.
    pub(crate) delay: Duration,
    /// What else a refusal says, as attributes of its stanza.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Fault {
    /// An attribute that is a number; 0 if it is not.
    pub(crate) fn number(&self, name: &str) -> usize {
        self.attributes.get(name).and_then(|number| number.parse().ok()).unwrap_or_default()
    }
}

/// The faults that are on.
#[derive(Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Switches all off, and says how many were on.
    pub(crate) fn clear(&mut self, now: Instant) -> usize {
        self.expire(now);
        std::mem::take(&mut self.list).len()
    }

    fn expire(&mut self, now: Instant) {
        self.list.retain(|fault| fault.until.is_none_or(|until| until > now));
    }

    /// The faults that are on now.
    pub(crate) fn active(&mut self, now: Instant) -> &[Fault] {
        self.expire(now);
        &self.list
    }

    /// The latest fault of this kind, for anybody. One that has `times` among its attributes is on only so often.
    pub(crate) fn take(&mut self, kind: FaultKind, now: Instant) -> Option<Fault> {
        let is_on = |fault: &Fault| {
            fault.kind == kind
                && fault.until.is_none_or(|until| until > now)
                && fault.attributes.get("times").is_none_or(|times| times != "0")
        };
        let fault = self.list.iter_mut().rev().find(|fault| is_on(fault))?;
        let taken = fault.clone();
        if let Some(times) = fault.attributes.get_mut("times") {
            *times = times.parse().unwrap_or(1_u32).saturating_sub(1).to_string();
        }
        Some(taken)
    }

    /// The latest fault of this kind that concerns this account now, or everybody if none is named.
    pub(crate) fn find(
        &self,
        kind: FaultKind,
        account: Option<&PhoneNumber>,
        now: Instant,
    ) -> Option<&Fault> {
        self.list.iter().rev().find(|fault| {
            fault.kind == kind
                && (fault.account.is_none() || fault.account.as_ref() == account)
                && fault.until.is_none_or(|until| until > now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, account: Option<&PhoneNumber>, until: Option<Instant>) -> Fault {
        Fault {
            kind,
            account: account.cloned(),
            until,
            code: 463,
            delay: Duration::ZERO,
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_fault_concerns_its_account_until_its_end() -> Result<(), crate::ids::PhoneNumberError> {
        let (one, two) = ("5491111".parse()?, "5492222".parse()?);
        let now = Instant::now();
        let end = now + Duration::from_secs(1);
        let mut faults = Faults::default();
        faults.add(fault(FaultKind::Nack, Some(&one), Some(end)));
        faults.add(fault(FaultKind::Delay, None, None));

        assert!(faults.find(FaultKind::Nack, Some(&one), now).is_some());
        assert!(faults.find(FaultKind::Nack, Some(&two), now).is_none());
        assert!(faults.find(FaultKind::Nack, Some(&one), end).is_none());
        assert!(faults.find(FaultKind::Delay, Some(&two), end).is_some());
        assert!(faults.find(FaultKind::MuteAcks, Some(&one), now).is_none());
        assert!(faults.find(FaultKind::Nack, None, now).is_none());
        assert!(faults.find(FaultKind::Delay, None, now).is_some());
        assert_eq!(faults.active(end).len(), 1);
        assert_eq!(faults.clear(end), 1);
        assert!(faults.find(FaultKind::Delay, Some(&two), end).is_none());
        Ok(())
    }

    #[test]
    fn a_fault_with_a_number_of_times_is_on_so_often() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let attributes = BTreeMap::from([("times".to_owned(), "2".to_owned())]);
        faults.add(Fault { attributes, ..fault(FaultKind::UploadRefused, None, None) });
        faults.add(fault(FaultKind::UploadHalf, None, None));
        let mut take = |kind| faults.take(kind, now).is_some();
        assert_eq!([1, 2, 3].map(|_| take(FaultKind::UploadRefused)), [true, true, false]);
        assert_eq!([1, 2, 3].map(|_| take(FaultKind::UploadHalf)), [true, true, true]);
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(FaultKind::parse("earthquake"), None);
    }
}
