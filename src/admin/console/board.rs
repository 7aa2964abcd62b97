//! What the bus says for the page: what waits, and the last dead letters. One task looks it up, and only while somebody
//! looks at the page; however many look, it is looked up once, and the most of the time it rests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::Status;
use crate::bus::Bus;
use crate::operator::{Counting, Letter, Letters, Report, collect};
use crate::wire::Subjects;

/// So many dead letters are shown.
const SHOWN: usize = 20;
/// A request waits so long for what it has asked for. Then it takes what there is.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// After each look-up it rests for so many times as long as that has taken, and for this at the least.
const RESTS: u32 = 4;
const RESTS_AT_LEAST: Duration = Duration::from_secs(1);
/// What this user may do is asked anew after this time.
const ALLOWED_FOR: Duration = Duration::from_secs(300);

/// So long ago; on a machine that has just started, now.
pub(super) fn ago(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(time).unwrap_or(now)
}

/// What was looked up.
#[derive(Debug)]
pub(super) struct Board {
    /// When this began.
    began: Instant,
    /// What waits, and what needs a person. `None`: this user may not see it.
    pub report: Option<Report>,
    /// The dead letters.
    pub letters: Dead,
    /// May this user change them?
    pub may_change: bool,
}

/// The dead letters.
#[derive(Debug)]
pub(super) enum Dead {
    /// The last, newest first, and whether there are more.
    Letters(Vec<Letter>, bool),
    /// This user may not see them.
    NotAllowed,
    /// The bus did not answer.
    Unknown,
}

/// The boards, the last of them at hand. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Boards {
    wanted: watch::Sender<Option<Instant>>,
    last: watch::Sender<Option<Arc<Board>>>,
}

impl Boards {
    pub(super) fn new() -> Self {
        Self { wanted: watch::Sender::new(None), last: watch::Sender::new(None) }
    }

    /// A board that was begun at `since` or later, if there is one soon; else the last one.
    pub(super) async fn since(&self, since: Instant) -> Option<Arc<Board>> {
        self.want(since);
        let mut last = self.last.subscribe();
        let is_new = |board: &Option<Arc<Board>>| board.as_ref().is_some_and(|board| board.began >= since);
        match tokio::time::timeout(PATIENCE, last.wait_for(is_new)).await {
            Ok(Ok(board)) => board.clone(),
            _ => self.last.borrow().clone(),
        }
    }

    /// Somebody looks: the last one, and a newer one soon.
    pub(super) fn now(&self) -> Option<Arc<Board>> {
        self.want(ago(RESTS_AT_LEAST));
        self.last.borrow().clone()
    }

    /// Wakes when there is a new one.
    pub(super) fn news(&self) -> watch::Receiver<Option<Arc<Board>>> {
        self.last.subscribe()
    }

    fn want(&self, since: Instant) {
        self.wanted.send_if_modified(|wanted| {
            let later = wanted.is_none_or(|wanted| wanted < since);
            if later {
                *wanted = Some(since);
            }
            later
        });
    }

    /// Looks up what is wanted, for as long as it is polled.
    pub(super) async fn keep(&self, status: &Status) {
        let (mut wanted, mut began) = (self.wanted.subscribe(), None::<Instant>);
        let mut allowed: Option<(Instant, [bool; 3])> = None;
        loop {
            let is_newer =
                |wanted: &Option<Instant>| wanted.is_some_and(|at| began.is_none_or(|began| began < at));
            if wanted.wait_for(is_newer).await.is_err() {
                return;
            }
            let now = Instant::now();
            began = Some(now);
            if let Some((bus, subjects)) = status.bus.get().filter(|(bus, _)| bus.is_connected()) {
                let lacks = match allowed {
                    Some((asked, lacks)) if asked.elapsed() < ALLOWED_FOR => lacks,
                    _ => bus.page_lacks(subjects).await,
                };
                if allowed.is_none_or(|(asked, _)| asked.elapsed() >= ALLOWED_FOR) {
                    allowed = Some((now, lacks));
                }
                let board = look_up(bus, subjects, now, lacks).await;
                self.last.send_replace(Some(Arc::new(board)));
            }
            tokio::time::sleep((now.elapsed() * RESTS).max(RESTS_AT_LEAST)).await;
        }
    }
}

async fn look_up(bus: &Bus, subjects: &Subjects, began: Instant, lacks: [bool; 3]) -> Board {
    let [no_report, no_letters, no_changes] = lacks;
    let report = async {
        if no_report { None } else { Some(Report::of(collect(bus, subjects, None, Counting::Off).await)) }
    };
    let letters = async {
        if no_letters {
            return Dead::NotAllowed;
        }
        let letters = Letters::new(bus.clone(), subjects.clone());
        match letters.last(SHOWN).await {
            Ok((found, more)) => {
                let found = found.iter().map(|letter| letters.describe(letter, false)).collect();
                Dead::Letters(found, more)
            }
            Err(error) => {
                tracing::debug!(%error, "the page has no dead letters to show");
                Dead::Unknown
            }
        }
    };
    let (report, letters) = tokio::join!(report, letters);
    Board { began, report, letters, may_change: !no_changes }
}
