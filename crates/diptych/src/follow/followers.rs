//! All running followers of an app, of every kind.

use std::io;

use super::{
    FollowerFeed,
    follower_control::FollowerControl,
    pulse::Pulse,
    status::{FollowerKind, FollowerStatus},
};

/// The running followers of an app. Dropping this ends their threads and waits for them, so that
/// none of them holds the log after the app is gone.
#[derive(Default)]
pub(crate) struct Followers {
    /// In the order in which they were added to the app.
    all: Vec<FollowerControl>,
    /// Names of the views that are candidates for the place of another one.
    candidates: Vec<String>,
    pulse: Option<Pulse>,
}

impl Followers {
    /// Takes over a follower that runs.
    pub(crate) fn add(&mut self, follower: FollowerControl) {
        self.all.push(follower);
    }

    /// Takes over the candidate of a view. The app starts without waiting for it.
    pub(crate) fn add_candidate(&mut self, follower: FollowerControl) {
        self.candidates.push(follower.name().to_owned());
        self.add(follower);
    }

    /// The views whose answers the app needs.
    pub(crate) fn required_views(&self) -> impl Iterator<Item = &FollowerControl> {
        let is_candidate = |name: &str| self.candidates.iter().any(|other| other == name);
        self.of_kind(FollowerKind::View).filter(move |view| !is_candidate(view.name()))
    }

    /// Starts to check the followers once a second.
    ///
    /// # Errors
    /// If the system gives no thread for the [`Pulse`].
    pub(crate) fn start_pulse(&mut self, feed: &FollowerFeed) -> io::Result<()> {
        if !self.all.is_empty() {
            let progress = self.all.iter().map(|follower| follower.progress().clone());
            self.pulse = Some(Pulse::start(feed.lineage().store().clone(), progress.collect())?);
        }
        Ok(())
    }

    /// The followers of this kind.
    pub(crate) fn of_kind(&self, kind: FollowerKind) -> impl Iterator<Item = &FollowerControl> {
        self.all.iter().filter(move |follower| follower.kind() == kind)
    }

    pub(crate) fn status(&self, kind: FollowerKind) -> Vec<FollowerStatus> {
        self.of_kind(kind).map(FollowerControl::status).collect()
    }

    /// Ends all followers, and waits until they have ended.
    pub(crate) async fn stop(&self) {
        // First every follower is told to end, even one that waits for a store that does not
        // answer.
        self.all.iter().for_each(|follower| follower.worker().end());
        for follower in &self.all {
            follower.worker().ended().await;
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.pulse = None;
        self.all.iter().for_each(|follower| follower.worker().end());
        self.all.iter().for_each(|follower| follower.worker().join());
    }
}
