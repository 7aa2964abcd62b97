//! One term of the lease: its parts are made anew, and all end with it. What outlives a term is in [`Parts`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::addressing::offers::Offers;
use super::addressing::opt_outs::OptOuts;
use super::addressing::takeovers::Takeovers;
use super::addressing::timers::Timers;
use super::inbound::{Files, Inbound, Latecomers, Memory, Pool};
use super::outbound::{
    Acks, Announcer, Courteous, Courtesies, Feedback, FileMeans, Means, Outbound, Receipts, Sender, SentAs,
};
use super::session::{Aside, Asides, Fetcher, Groups, Jobs, Polls, Resends, Session, Uploader, Uploads};
use super::{Parts, Settings};

impl Parts {
    /// One term of the lease. It ends with `stop`, or when the lease or the session is `lost`.
    pub(super) async fn term(&self, lost: &CancellationToken, grace: Duration) {
        let stop = self.stop.child_token();
        let (account, acks, jobs) = (&self.settings.account, Acks::default(), Jobs::default());
        let (resends, polls, uploads) = (Resends::default(), Polls::default(), Uploads::default());
        let offers =
            Offers::new(self.bus.clone(), self.subjects.clone(), account.clone(), self.topology.out_max_age);
        let (timers, takeovers, opt_outs, sent_as) =
            (Timers::default(), self.takeovers(), self.opt_outs(), SentAs::default());
        let (groups, asker) = Groups::new(self.connection.clone(), stop.clone());
        let (courtesies, courteous) = self.courtesies(groups.clone(), &stop);
        let means = Means {
            sender: Sender::new(self.connection.clone(), acks.clone()),
            limits: self.settings.limits,
            look_ups: self.look_ups.clone(),
            offers: offers.clone(),
            timers: timers.clone(),
            takeovers: takeovers.clone(),
            opt_outs: opt_outs.clone(),
            sent_as: sent_as.clone(),
            polls: polls.clone(),
            new_chats: self.new_chats.clone(),
            files: self.file_means(uploads.clone()),
            groups: groups.clone(),
            interactive: self.settings.interactive,
            courtesies,
        };
        let Some(Some(outbound)) = lost.run_until_cancelled(self.outbound(means, &stop)).await else {
            return;
        };
        let files = self.topology.media.map(|_| Files::new(jobs.clone(), self.topology.in_max_age));
        let known = (offers, timers, takeovers.clone(), opt_outs);
        let hook = self.hook((&resends, &polls, files.clone()), groups.clone(), known, &stop);
        let pool = files.map(|files| self.pool(files, hook.clone(), &stop));
        let (receipts, announcer) = self.receipts(&hook, sent_as, &stop);
        // The session outlives the sends in flight, because it carries them. It must not outlive the lease.
        let carry = lost.child_token();
        let (asides, heard) = Asides::channel();
        let latecomers = self.latecomers(heard, &hook, &resends, &stop);
        let session = Session {
            settings: self.settings.session.clone(),
            auth: Arc::clone(&self.auth),
            hook,
            resends,
            polls,
            jobs,
            uploads,
            http: self.http.clone(),
            asides,
            groups,
            outgoing: Arc::new(Feedback { acks, receipts }),
            connection: self.writer.clone(),
            stop: carry.clone(),
        };
        let work = async {
            let sends = async {
                tokio::join!(outbound.run(grace, lost.clone()), courteous.run(lost.clone()));
                carry.cancel();
            };
            let ends = takeovers.tell_of_ends(&stop);
            let others = async { tokio::join!(latecomers.run(), asker.run(), ends, fetch(pool)) };
            tokio::join!(session.run(), sends, announcer.run(), others)
        };
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => {}
            () = lost.cancelled() => {
                // Hooks and sends must not outlive the lease either.
                stop.cancel();
                work.await;
            }
        }
    }

    fn hook(
        &self,
        (resends, polls, files): (&Resends, &Polls, Option<Files>),
        groups: Groups,
        (offers, timers, takeovers, opt_outs): (Offers, Timers, Takeovers, OptOuts),
        stop: &CancellationToken,
    ) -> Inbound {
        let (bus, subjects, account) =
            (self.bus.clone(), self.subjects.clone(), self.settings.account.clone());
        let memory = Memory {
            offers,
            timers,
            takeovers,
            opt_outs,
            resends: resends.clone(),
            polls: polls.clone(),
            extra: self.settings.session.extra,
            files,
            groups,
        };
        Inbound::new(bus, subjects, account, memory, stop.clone())
    }

    /// Which chats a person has taken over, for one term of the lease.
    fn takeovers(&self) -> Takeovers {
        let account = self.settings.account.clone();
        Takeovers::new(self.bus.clone(), self.subjects.clone(), account, self.takeovers.clone())
    }

    /// Who wants nothing unasked, for one term of the lease.
    fn opt_outs(&self) -> OptOuts {
        let Settings { account, opt_out, .. } = &self.settings;
        OptOuts::new(self.bus.clone(), self.subjects.clone(), account.clone(), opt_out.clone())
    }

    /// Takes receipts, for one term of the lease.
    fn receipts(&self, hook: &Inbound, sent_as: SentAs, stop: &CancellationToken) -> (Receipts, Announcer) {
        Receipts::channel(
            self.bus.clone(),
            self.subjects.clone(),
            self.settings.account.clone(),
            hook.chats(),
            self.connection.clone(),
            sent_as,
            stop.clone(),
        )
    }

    /// Fetches files, for one term of the lease.
    fn pool(&self, files: Files, inbound: Inbound, stop: &CancellationToken) -> Pool {
        Pool {
            files,
            fetcher: Fetcher::new(self.http.clone(), self.settings.media_max_bytes),
            inbound,
            connection: self.connection.clone(),
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            stop: stop.clone(),
        }
    }

    /// Sends files, for one term of the lease.
    fn file_means(&self, uploads: Uploads) -> FileMeans {
        let sends = self.topology.media.is_some_and(|media| media.sends);
        FileMeans {
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            connection: self.connection.clone(),
            uploader: Uploader::new(self.http.clone()),
            uploads,
            most: sends.then_some(self.settings.media_max_bytes),
        }
    }

    /// Says what people see beside messages, for one term of the lease.
    fn courtesies(&self, groups: Groups, stop: &CancellationToken) -> (Courtesies, Courteous) {
        let courtesies = Courtesies::new(self.settings.shown);
        let courteous = Courteous {
            courtesies: courtesies.clone(),
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            account: self.settings.account.clone(),
            connection: self.connection.clone(),
            groups,
            stop: stop.clone(),
        };
        (courtesies, courteous)
    }

    /// Stores what passes the hook by.
    fn latecomers(
        &self,
        heard: mpsc::Receiver<Aside>,
        hook: &Inbound,
        resends: &Resends,
        stop: &CancellationToken,
    ) -> Latecomers {
        let (inbound, connection) = (hook.clone(), self.connection.clone());
        Latecomers { heard, inbound, resends: resends.clone(), connection, stop: stop.clone() }
    }

    /// The sending half, ready to run. `None`: the bus does not answer, and a pause is over.
    async fn outbound(&self, means: Means, stop: &CancellationToken) -> Option<Arc<Outbound>> {
        let outbound = Outbound::new(
            self.bus.clone(),
            self.subjects.clone(),
            self.settings.account.clone(),
            means,
            self.topology.clone(),
            stop.clone(),
        );
        match outbound.await {
            Ok(outbound) => Some(outbound),
            Err(error) => {
                tracing::warn!(%error, "the outbound consumer does not answer");
                let _ = tokio::time::timeout(Duration::from_secs(1), self.stop.cancelled()).await;
                None
            }
        }
    }
}

async fn fetch(pool: Option<Pool>) {
    if let Some(pool) = pool {
        pool.run().await;
    }
}
