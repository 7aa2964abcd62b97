//! The rate limit: one token bucket per chat, and one for all chats. A message that finds a bucket empty waits.
//! Nothing is dropped.

use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::Mutex;

use super::rate::{Limit, Rate};
use crate::wire::ChatToken;

type Moment = <DefaultClock as governor::clock::Clock>::Instant;

/// The buckets. They are full at the start: a bucket holds as many tokens as its rate allows in its whole window.
#[derive(Debug)]
pub(super) struct RateLimits {
    per_chat: Option<DefaultKeyedRateLimiter<ChatToken>>,
    total: Option<DefaultDirectRateLimiter>,
    /// Only one message at a time waits at the common bucket; the others queue behind it. So they go in order, and
    /// one timer is enough for all.
    queue: Mutex<()>,
    clock: DefaultClock,
}

impl RateLimits {
    /// Starts with full buckets.
    pub(super) fn new(per_chat: Limit, total: Limit) -> Self {
        Self {
            per_chat: per_chat.and_then(quota).map(RateLimiter::keyed),
            total: total.and_then(quota).map(RateLimiter::direct),
            queue: Mutex::default(),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one of the chat's tokens, as soon as there is one.
    pub(super) async fn of_chat(&self, chat: &ChatToken) {
        if let Some(bucket) = &self.per_chat {
            self.wait(|| bucket.check_key(chat)).await;
        }
    }

    /// Takes one token of the common bucket, as soon as it is this message's turn and there is one.
    pub(super) async fn of_all(&self) {
        if let Some(bucket) = &self.total {
            let _turn = self.queue.lock().await;
            self.wait(|| bucket.check()).await;
        }
    }

    /// Forgets the chats whose buckets are full again: they are like new chats.
    pub(super) fn forget_idle(&self) {
        if let Some(bucket) = &self.per_chat {
            bucket.retain_recent();
            bucket.shrink_to_fit();
        }
    }

    /// Uses tokio's timer, because the limiter's own timer would start a thread.
    async fn wait(&self, take: impl Fn() -> Result<(), NotUntil<Moment>>) {
        while let Err(not_yet) = take() {
            let left = not_yet.wait_time_from(self.clock.now());
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    Some(Quota::with_period(rate.interval())?.allow_burst(rate.count))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::super::rate::limit;
    use super::*;

    fn limits(per_chat: &str, total: &str) -> RateLimits {
        RateLimits::new(limit(per_chat).unwrap(), limit(total).unwrap())
    }

    fn chat(number: u32) -> ChatToken {
        ChatToken::phone(&format!("5491100{number:05}"))
    }

    #[tokio::test]
    async fn an_empty_bucket_makes_its_own_chat_wait_and_no_other() {
        let limits = limits("3/1s", "off");
        let start = Instant::now();
        for _ in 0..5 {
            limits.of_chat(&chat(1)).await;
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(600), "two were over the three: {waited:?}");
        let wait = limits.of_chat(&chat(2)).now_or_never();
        assert!(wait.is_some(), "another chat waits");
    }

    #[tokio::test]
    async fn at_the_common_bucket_the_first_to_come_is_the_first_to_go() {
        let limits = Arc::new(limits("off", "10/1s"));
        for _ in 0..10 {
            limits.of_all().await;
        }
        let (gone, mut order) = tokio::sync::mpsc::channel(3);
        for name in ["first", "second"] {
            let (limits, gone) = (Arc::clone(&limits), gone.clone());
            tokio::spawn(async move {
                limits.of_all().await;
                gone.send(name).await.unwrap();
            });
            // It waits before the next one comes.
            tokio::task::yield_now().await;
        }
        // There is a token now, and this task is the first that could take it.
        std::thread::sleep(Duration::from_millis(150));
        limits.of_all().await;
        gone.send("third").await.unwrap();
        for name in ["first", "second", "third"] {
            assert_eq!(order.recv().await, Some(name));
        }
    }

    #[tokio::test]
    async fn chats_whose_buckets_are_full_are_forgotten() {
        let limits = limits("1/1s", "off");
        for number in 0..100 {
            limits.of_chat(&chat(number)).await;
        }
        let known = || limits.per_chat.as_ref().unwrap().len();
        assert_eq!(known(), 100);
        let start = Instant::now();
        while known() > 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "{} are remembered", known());
            tokio::time::sleep(Duration::from_millis(50)).await;
            limits.forget_idle();
        }
    }

    #[tokio::test]
    async fn the_common_bucket_is_everybodys() {
        let limits = limits("off", "3/1s");
        let start = Instant::now();
        for _ in 0..5 {
            limits.of_all().await;
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(600), "two were over the three: {waited:?}");
    }
}
