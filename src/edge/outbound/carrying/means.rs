//! What messages are carried with, and how fast.

use super::super::courtesies::Courtesies;
use super::super::files::FileMeans;
use super::super::lookups::{LookUps, SentAs};
use super::super::native::Interactive;
use super::super::new_chats::{self, NewChats};
use super::super::rate::Limit;
use super::super::sending::Sender;
use crate::edge::addressing::offers::Offers;
use crate::edge::addressing::opt_outs::OptOuts;
use crate::edge::addressing::takeovers::Takeovers;
use crate::edge::addressing::timers::Timers;
use crate::edge::session::{Groups, Polls};

/// The limits for sending messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Messages to one chat (`SEND_PER_CHAT`). Above the limit they wait.
    pub per_chat: Limit,
    /// Messages in total (`SEND_TOTAL`). Above the limit they wait.
    pub total: Limit,
    /// Answers to one chat, counted by when their messages were written (`LOOP_LIMIT`). Above the limit they are
    /// not sent.
    pub loops: Limit,
    /// Messages to people who are not known.
    pub new_chats: new_chats::Limits,
    /// How often other services may ask whether a number is on WhatsApp (`SERVICE_CHECKS`).
    pub checks: Limit,
}

/// With what messages are carried.
#[derive(Debug)]
pub(crate) struct Means {
    /// Sends them.
    pub sender: Sender,
    /// How fast.
    pub limits: Limits,
    /// Asks WhatsApp about numbers.
    pub look_ups: LookUps,
    /// Hears what they offer to choose from.
    pub offers: Offers,
    /// The chats' disappearing timers.
    pub timers: Timers,
    /// The chats that a person has taken over.
    pub takeovers: Takeovers,
    /// Who wants nothing unasked.
    pub opt_outs: OptOuts,
    /// Which chat a receipt belongs to, if WhatsApp named another address.
    pub sent_as: SentAs,
    /// Keeps what votes are read with.
    pub polls: Polls,
    /// How many chats may be opened.
    pub new_chats: NewChats,
    /// Takes files to WhatsApp.
    pub files: FileMeans,
    /// Who may write in groups.
    pub groups: Groups,
    /// How options are shown.
    pub interactive: Interactive,
    /// What people see beside messages.
    pub courtesies: Courtesies,
}
