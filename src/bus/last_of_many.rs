//! The last messages of many subjects: a question for each, so that permissions can limit a user to its own subjects.
//!
//! All answers come to one inbox. async-nats would make a request of each, with a channel, a timer and an address of its own.

use std::collections::{HashSet, VecDeque};

use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;

use super::batch::stored;
use super::read::DIRECT_GET_TIMEOUT;
use super::{Bus, ReadError, Stored};

/// What is known of a subject: its last message, or that there is none. `Err`: it may be known the next time.
pub type Last = Result<Option<Stored>, String>;

impl Bus {
    /// Asks each of these subjects once, so many at a time, and hands each answer out with its subject's place. It may come
    /// from a follower and be some seconds old, as that of [`Bus::last`].
    pub async fn last_of_many(
        &self,
        stream: &str,
        subjects: &[String],
        at_once: usize,
        mut found: impl FnMut(usize, Last),
    ) -> Result<(), ReadError> {
        let Some(first) = subjects.first() else { return Ok(()) };
        let api = format!("{}.DIRECT.GET.{stream}", self.api);
        let asked = self.ask_each(&api, subjects, at_once, &mut found);
        self.unless_refused(&format!("{api}.{first}"), asked).await
    }

    async fn ask_each(
        &self,
        api: &str,
        subjects: &[String],
        at_once: usize,
        found: &mut impl FnMut(usize, Last),
    ) -> Result<(), String> {
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(format!("{inbox}.*")).await;
        let mut answers = answers.map_err(|error| error.to_string())?;
        let mut open = Open::default();
        let mut rest = subjects.iter().enumerate();
        loop {
            while open.count() < at_once
                && let Some((place, subject)) = rest.next()
            {
                let (question, reply) = (format!("{api}.{subject}"), format!("{inbox}.{place}"));
                let published = self.client.publish_with_reply(question, reply, Bytes::new()).await;
                published.map_err(|error| error.to_string())?;
                open.asked(place, Instant::now() + DIRECT_GET_TIMEOUT);
            }
            let Some(until) = open.first() else { return Ok(()) };
            match tokio::time::timeout_at(until, answers.next()).await {
                Ok(Some(answer)) => {
                    let place = answer.subject.rsplit('.').next().and_then(|place| place.parse().ok());
                    // One that comes too late is not waited for any more.
                    if let Some(place) = place.filter(|place| open.answered(*place)) {
                        found(place, last(answer));
                    }
                }
                Ok(None) => return Err("the connection is closed".to_owned()),
                Err(_elapsed) => {
                    open.give_up(Instant::now()).for_each(|place| found(place, Err("timed out".to_owned())))
                }
            }
        }
    }
}

/// The questions that have no answer yet, in the order in which they were asked.
#[derive(Debug, Default)]
struct Open {
    queue: VecDeque<(usize, Instant)>,
    waiting: HashSet<usize>,
}

impl Open {
    fn count(&self) -> usize {
        self.waiting.len()
    }

    fn asked(&mut self, place: usize, until: Instant) {
        self.queue.push_back((place, until));
        self.waiting.insert(place);
    }

    /// Was it waited for?
    fn answered(&mut self, place: usize) -> bool {
        self.waiting.remove(&place)
    }

    /// Until when the oldest one may take.
    fn first(&mut self) -> Option<Instant> {
        while self.queue.front().is_some_and(|(place, _)| !self.waiting.contains(place)) {
            self.queue.pop_front();
        }
        self.queue.front().map(|(_, until)| *until)
    }

    /// Those that have taken too long. A frozen replica answers none, and keeps nobody from asking the next ones.
    fn give_up(&mut self, now: Instant) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            while let Some((place, _)) = self.queue.pop_front_if(|(_, until)| *until <= now) {
                if self.waiting.remove(&place) {
                    return Some(place);
                }
            }
            None
        })
    }
}

fn last(answer: Message) -> Last {
    match answer.status.map_or(200, |status| status.as_u16()) {
        200 => stored(answer).map(Some).ok_or_else(|| "it answered with something else".to_owned()),
        404 => Ok(None),
        503 => Err("no stream answers: it does not exist, or it has no leader".to_owned()),
        status => Err(format!("{status} {}", answer.description.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_question_is_waited_for_until_its_time_and_one_that_is_given_up_not_any_more() {
        let (mut open, began) = (Open::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        for place in 0..4 {
            open.asked(place, at(place as u64 * 10));
        }
        assert!(open.answered(0) && !open.answered(0), "an answer counts once");
        assert_eq!((open.first(), open.count()), (Some(at(10)), 3));
        assert!(open.answered(2));
        assert_eq!(open.give_up(at(20)).collect::<Vec<_>>(), [1]);
        assert!(!open.answered(1), "it comes too late");
        assert_eq!((open.first(), open.count()), (Some(at(30)), 1));
        assert_eq!(open.give_up(at(30)).collect::<Vec<_>>(), [3]);
        assert_eq!((open.first(), open.count()), (None, 0));
    }
}
