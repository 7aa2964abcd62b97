//! A voice note's words (`TRANSCRIBE_URL`): its file is fetched out of the bucket and written down, and what is said counts
//! as its text. Whatever goes wrong, the voice note is a message without words, and its chat goes on.

use tokio::time::timeout;

use super::file::Known;
use super::{Interrupted, Turn};
use crate::forwarder::eligible;
use crate::telemetry::{metrics, spans};
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{InboundMessage, MediaResult, MediaState, Text};

/// The longest voice note that is written down, in bytes. An hour of speech has less.
const LONGEST: u64 = 16 << 20;

/// What this turn knows of the words of its voice note.
#[derive(Debug, Default)]
pub(super) enum Heard {
    /// Nobody has listened.
    #[default]
    Not,
    /// There are none that could be had.
    Nothing,
    /// What is said in it.
    Words(String),
}

impl Turn<'_> {
    /// Is it a voice note whose words are wanted, and not known yet?
    pub(super) fn is_to_be_heard(&self, message: &InboundMessage, heard: &Heard, now_ms: i64) -> bool {
        let is_voice = matches!(&message.content, Some(Content::Audio(audio)) if audio.voice && audio.state() == MediaState::Pending);
        is_voice
            && matches!(heard, Heard::Not)
            && self.forwarder.transcriber.is_some()
            && eligible::lacks_only_words(message, &self.forwarder.settings.eligible, now_ms)
    }

    /// Waits for the file, and then for its words. The turn must hold nothing in the meantime that others need.
    pub(super) async fn listen(&self, file: &mut Known) -> Result<Heard, Interrupted> {
        self.wait_for_file(file).await?;
        let (Some(transcriber), Some(found)) = (&self.forwarder.transcriber, file.stored()) else {
            return Ok(Heard::Nothing);
        };
        let _waiting = metrics::TURNS.enter(["file"]);
        let listening = timeout(transcriber.timeout(), self.words(found));
        let words = self.or_stop(listening).await?.unwrap_or_else(|_elapsed| Err("timeout".to_owned()));
        spans::event("transcript", [("wa.heard", matches!(words, Ok(Some(_))).into())]);
        Ok(match words {
            Ok(words) => words.map_or(Heard::Nothing, Heard::Words),
            Err(reason) => {
                if let Some(unsaid) = self.forwarder.unheard.due() {
                    tracing::warn!(
                        reason,
                        unsaid,
                        "a voice note cannot be transcribed; it counts as one without words"
                    );
                }
                Heard::Nothing
            }
        })
    }

    async fn words(&self, found: &MediaResult) -> Result<Option<String>, String> {
        let Some(transcriber) = &self.forwarder.transcriber else { return Ok(None) };
        if found.size_bytes > LONGEST {
            return Err("too-large".to_owned());
        }
        let _place = self.forwarder.listeners.acquire().await.map_err(|closed| closed.to_string())?;
        let object = self.forwarder.bus.object(&self.forwarder.subjects, &found.key).await;
        let mut object = object.map_err(|error| error.to_string())?.ok_or("not-in-the-bucket")?;
        let mut sound = Vec::new();
        while let Some(piece) = object.piece().await.map_err(|error| error.to_string())? {
            // It never has more than its description says, and that may say another size than the update.
            if u64::try_from(sound.len() + piece.len()).is_ok_and(|size| size > LONGEST) {
                return Err("too-large".to_owned());
            }
            sound.extend_from_slice(&piece);
        }
        let words = transcriber.transcript(&sound, &found.mime_type).await;
        words.map_err(|failure| failure.code().to_owned())
    }
}

/// The message as if its words had been written.
pub(super) fn written(message: &InboundMessage, words: &str) -> InboundMessage {
    let content = Some(Content::Text(Text { body: words.to_owned() }));
    InboundMessage { content, ..message.clone() }
}
