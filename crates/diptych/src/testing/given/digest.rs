use std::any::type_name;

use diptych_store::Filter;
use serde::{Serialize, de::DeserializeOwned};

use super::Given;
use crate::{
    command::{Folds, folds::StateSource},
    digest::{StateDigest, digest},
    fold::Fold,
    snapshot::{decode, encode},
};

/// Approximate number of comparisons of two states on the way. A digest takes longer the larger its
/// state is.
const COMPARISONS: usize = 1024;

impl Given {
    /// Guards the [version](Fold::VERSION) of a fold whose snapshots are used across builds. It
    /// checks that these events still lead to the state that they led to when the digest was
    /// committed.
    ///
    /// Begin with an empty text. The check then fails, and says which text to commit: the version,
    /// and the [digest](crate::digest()) of the state. If the events later lead to another state,
    /// the check asks for another version, so that no old snapshot is used.
    ///
    /// It also checks that snapshots lose nothing: the state is written and read back after each
    /// event, and must stay the same.
    ///
    /// Give events that bring the fold into every state of interest, and do not change them later:
    /// write another check for other events.
    ///
    /// ```
    /// # use diptych::{Event, testing::given};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event("money-deposited")]
    /// # struct Deposited { amount: u64 }
    /// use diptych::{Fold, Recorded};
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Balance {
    ///     amount: u64,
    /// }
    ///
    /// impl Fold for Balance {
    ///     type Event = Deposited;
    ///
    ///     const VERSION: Option<u32> = Some(1);
    ///
    ///     fn apply(&mut self, event: &Recorded<Deposited>) {
    ///         self.amount += event.amount;
    ///     }
    /// }
    ///
    /// given([Deposited { amount: 20 }, Deposited { amount: 5 }]).check_digest::<Balance>(
    ///     "1:28ab1450eeb10401936350e4b90efc5b19536c6a3f17967a51ef521f094252d7",
    /// );
    /// ```
    ///
    /// # Panics
    /// If the state is another one, with what to do; if a snapshot would lose something; or if an
    /// event cannot be folded.
    #[track_caller]
    pub fn check_digest<F>(self, committed: &str)
    where
        F: Fold + Serialize + DeserializeOwned,
    {
        let problem = match F::VERSION {
            None => Some(
                "it has no VERSION, so its snapshots are used only by the executable that made \
                 them: give it one, or leave out this check"
                    .to_owned(),
            ),
            Some(version) => match self.digest_of::<F>() {
                Ok(digest) => compare(committed, version, digest),
                Err(problem) => Some(problem),
            },
        };
        if let Some(problem) = problem {
            panic!("{}: {problem}", type_name::<F>());
        }
    }

    /// The digest of the state after all events, if snapshots on the way make no difference.
    fn digest_of<F>(&self) -> Result<StateDigest, String>
    where
        F: Fold + Serialize + DeserializeOwned,
    {
        let open = || match F::open(Filter::everything(), &StateSource::uncached(&self.schema)) {
            Ok(slots) => Ok(slots),
            Err(failure) => Err(format!("its events cannot be selected: {failure}")),
        };
        let (mut straight, mut kept) = (open()?, open()?);
        if self.events.is_empty() {
            return Err("there are no events to fold: give some".to_owned());
        }
        let (all, step) = (self.events.len(), self.events.len() / COMPARISONS + 1);
        for at in 0..all {
            for slot in [&mut straight, &mut kept] {
                self.fold_event(slot, at).map_err(|error| error.to_string())?;
            }
            let after = || format!("a snapshot of it after event {} of {all}", at + 1);
            let bytes = encode(&kept.fold, Vec::new());
            let bytes = bytes.map_err(|error| format!("{} cannot be made: {error}", after()))?;
            let read =
                decode(&bytes).map_err(|error| format!("{} cannot be read: {error}", after()));
            kept.fold = read?;
            let compares = (at + 1) % step == 0 || at + 1 == all;
            if compares && of(&straight.fold)? != of(&kept.fold)? {
                return Err(format!(
                    "{} reads back as another state, or leads to another one: serialise everything \
                     that `apply` depends on, so that no two states are written alike",
                    after()
                ));
            }
        }
        of(&straight.fold)
    }
}

fn of<T: Serialize>(state: &T) -> Result<StateDigest, String> {
    digest(state).map_err(|error| error.to_string())
}

/// The problem with the committed digest, and the digest that belongs in its place.
fn compare(committed: &str, version: u32, digest: StateDigest) -> Option<String> {
    let belongs = |version: u32| format!("\"{version}:{digest}\"");
    let known = committed.split_once(':').and_then(|(version, digest)| {
        Some((version.parse::<u32>().ok()?, digest.parse::<StateDigest>().ok()?))
    });
    match known {
        None if committed.is_empty() => {
            Some(format!("there is no digest yet, commit this one: {}", belongs(version)))
        }
        None => Some(format!(
            "{committed:?} is no version with a digest, commit this one: {}",
            belongs(version)
        )),
        Some((then, _)) if then > version => Some(format!(
            "VERSION was {then} and is {version}, so that old snapshots would be used again: \
             raise it to {next}, and replace the digest by {}",
            belongs(then.saturating_add(1)),
            next = then.saturating_add(1),
        )),
        Some((then, _)) if then < version => Some(format!(
            "VERSION was {then} and is {version}: replace the digest by {}",
            belongs(version)
        )),
        Some((_, then)) if then != digest => Some(format!(
            "these events led to another state when the digest was committed, and snapshots from \
             then would be used for this one; correct the fold, or raise its VERSION to {next} \
             and replace the digest by {}",
            belongs(version.saturating_add(1)),
            next = version.saturating_add(1),
        )),
        Some(_) => None,
    }
}
