//! The persons' tokens, kept in memory.
//!
//! The library asks the store for a person's token (`tctoken`) before each answer, and it hardly ever changes. All calls
//! that change one pass here, so what is remembered is what the store has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whatsapp_rust::traits::TcTokenEntry;
use whatsapp_rust::wacore::store::error::Result;

/// How many persons are remembered. One more, and all are forgotten: the store knows them.
const REMEMBERED: usize = 5_000;

/// `None`: the store has none of that person.
type Token = Option<TcTokenEntry>;

/// What is known of the tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Token>,
    /// How many changes are under way. A call that is given up in the middle counts for ever: its change may come at any
    /// time, so nothing is remembered any more.
    changing: usize,
    /// How many changes were begun.
    changes: u64,
}

impl Tokens {
    /// The person's token; from the store, with `read`, if it is not known.
    pub(super) async fn of(&self, jid: &str, read: impl Future<Output = Result<Token>>) -> Result<Token> {
        let changes = {
            let state = self.state();
            match state.known.get(jid) {
                Some(known) => return Ok(known.clone()),
                None => state.changes,
            }
        };
        let token = read.await?;
        let mut state = self.state();
        if state.changing == 0 && state.changes == changes {
            if state.known.len() >= REMEMBERED {
                state.known.clear();
            }
            state.known.insert(jid.to_owned(), token.clone());
        }
        Ok(token)
    }

    /// Does `change`, which changes this person's token, or those of many.
    pub(super) async fn change<T>(&self, jid: Option<&str>, change: impl Future<Output = T>) -> T {
        {
            let mut state = self.state();
            state.changing += 1;
            state.changes += 1;
            match jid {
                Some(jid) => drop(state.known.remove(jid)),
                None => state.known.clear(),
            }
        }
        let changed = change.await;
        self.state().changing -= 1;
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::{pending, ready};

    use super::*;

    fn token(sent: i64) -> Token {
        Some(TcTokenEntry { token: vec![7], token_timestamp: 1, sender_timestamp: Some(sent) })
    }

    /// What is answered if the store has `stored`.
    async fn of(tokens: &Tokens, jid: &str, stored: Token) -> Option<i64> {
        tokens.of(jid, ready(Ok(stored))).await.expect("it is read").and_then(|token| token.sender_timestamp)
    }

    #[tokio::test]
    async fn the_store_is_asked_again_after_a_change_and_only_then() {
        let tokens = Tokens::default();
        assert_eq!(of(&tokens, "a@lid", token(1)).await, Some(1));
        assert_eq!(of(&tokens, "b@lid", None).await, None);
        assert_eq!(of(&tokens, "a@lid", token(2)).await, Some(1), "it is remembered");
        tokens.change(Some("a@lid"), ready(())).await;
        assert_eq!(of(&tokens, "a@lid", token(2)).await, Some(2));
        assert_eq!(of(&tokens, "b@lid", token(2)).await, None, "another's is still remembered");
        tokens.change(None, ready(())).await;
        assert_eq!(of(&tokens, "b@lid", token(3)).await, Some(3));
    }

    #[tokio::test]
    async fn what_was_read_while_it_changed_is_not_remembered() {
        let tokens = Tokens::default();
        let read = tokens.change(Some("a@lid"), ready(())).map(|()| Ok(token(1)));
        tokens.of("a@lid", read).await.expect("it is read");
        assert_eq!(of(&tokens, "a@lid", token(2)).await, Some(2));

        tokens.change(Some("a@lid"), of(&tokens, "a@lid", token(2))).await;
        assert_eq!(of(&tokens, "a@lid", token(3)).await, Some(3));

        // A change that is given up may still come.
        assert!(tokens.change(Some("a@lid"), pending::<()>()).now_or_never().is_none());
        assert_eq!(of(&tokens, "a@lid", token(4)).await, Some(4));
        assert_eq!(of(&tokens, "a@lid", token(5)).await, Some(5));
    }
}
