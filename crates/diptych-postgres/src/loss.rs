//! The report of events that a handle has seen and that the log does not have any more.

use std::fmt;

use diptych_store::{EventChecksum, Position};

use crate::{failure::Fault, history::History, marks::Mark, reads, session::Session};

/// The part of a history that is gone, as far as the handle knows that history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The last event that was found in both histories.
    pub(crate) common: Position,
    /// The first event that differs is after the common one, and not after this.
    pub(crate) differs_by: Position,
    /// The last position that was seen.
    pub(crate) seen: Position,
    /// The least and the greatest number of acknowledged commits of this handle that are gone.
    pub(crate) own: (u64, u64),
}

impl Loss {
    /// Compares the events that were seen with those of the server, whose log has this head.
    pub(crate) async fn find(
        session: &Session,
        server: &History,
        (head, seen): (Position, Position),
        marks: &[Mark],
    ) -> Result<Loss, Fault> {
        // Two histories are equal up to a position, and nowhere after it.
        let (mut equal, mut unequal) = (0, marks.len());
        while equal < unequal {
            let middle = equal.midpoint(unequal);
            let Some(mark) = marks.get(middle) else { break };
            match has(session, server, mark.position, mark.checksum).await? {
                true => equal = middle + 1,
                false => unequal = middle,
            }
        }
        Ok(Loss::after(marks, equal, (head, seen)))
    }

    /// The loss if this many marks are equal.
    fn after(marks: &[Mark], equal: usize, (head, seen): (Position, Position)) -> Loss {
        let (kept, lost) = marks.split_at(equal.min(marks.len()));
        let common = kept.last().map_or(Position::START, |mark| mark.position);
        let next = common.plus(1);
        let mut differs_by = seen.max(next);
        if let Some(first) = lost.first() {
            differs_by = differs_by.min(first.first.max(next));
        }
        if seen > head {
            // The server has no event there.
            differs_by = differs_by.min(head.plus(1).max(next));
        }
        let most: u64 = lost.iter().map(|mark| u64::from(mark.own)).sum();
        // A mark can stand for commits before its own, and those may be there.
        let before = lost.first().map_or(0, |first| u64::from(first.own.saturating_sub(1)));
        Loss { common, differs_by, seen, own: (most - before, most) }
    }
}

impl Loss {
    /// The loss of this program in words.
    pub(crate) fn of(&self, program: &str) -> String {
        let (from, by) = (self.common.plus(1), self.differs_by);
        let place = match from == by {
            true => format!("position {from} on"),
            false => format!("a position on between {from} and {by}"),
        };
        let own = match self.own {
            (_, 0) => "none of the missing commits is its own".to_owned(),
            (1, 1) => "1 commit of its own that was acknowledged is missing".to_owned(),
            (least, most) => {
                let number = match least == most {
                    true => most.to_string(),
                    false => format!("between {least} and {most}"),
                };
                format!("{number} commits of its own that were acknowledged are missing")
            }
        };
        let seen = self.seen;
        format!("events differ from {place}, {program} had seen events up to {seen}, and {own}")
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("this program"))
    }
}

/// Whether the log has this event.
pub(crate) async fn has(
    session: &Session,
    history: &History,
    position: Position,
    checksum: EventChecksum,
) -> Result<bool, Fault> {
    Ok(reads::checksum(session, history, position).await? == Some(checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(all: &[(u64, u64, u32)]) -> Vec<Mark> {
        let mark = |&(first, last, own)| Mark {
            first: Position::new(first),
            own,
            ..Mark::read(Position::new(last), EventChecksum::from_u64(last))
        };
        all.iter().map(mark).collect()
    }

    fn told(all: &[(u64, u64, u32)], equal: usize, head: u64, seen: u64) -> String {
        let ends = (Position::new(head), Position::new(seen));
        Loss::after(&marks(all), equal, ends).to_string()
    }

    #[test]
    fn a_loss_names_the_first_position_that_differs_as_far_as_it_is_known() {
        let dense = [(1, 1, 1), (2, 4, 1), (5, 5, 1), (6, 9, 1)];
        assert_eq!(
            told(&dense, 2, 8, 9),
            "events differ from position 5 on, this program had seen events up to 9, and 2 \
             commits of its own that were acknowledged are missing"
        );
        // Commits of others lie between its own.
        let sparse = [(1, 1, 1), (20, 20, 1)];
        let begin = told(&sparse, 1, 30, 20);
        assert!(begin.starts_with("events differ from a position on between 2 and 20,"), "{begin}");
        assert!(begin.ends_with("1 commit of its own that was acknowledged is missing"), "{begin}");
        // The server ends before.
        let begin = told(&sparse, 1, 4, 20);
        assert!(begin.starts_with("events differ from a position on between 2 and 5,"), "{begin}");
        // Some commits of a mark that stands for several may be there.
        let thinned = [(1, 1, 1), (9, 9, 8), (10, 10, 1)];
        let end = told(&thinned, 1, 20, 10);
        assert!(
            end.ends_with(
                "between 2 and 9 commits of its own that were acknowledged are \
                               missing"
            ),
            "{end}"
        );
        // All that it read is there, and the head that it knew is not.
        let only_head = told(&[(3, 3, 0)], 1, 4, 7);
        assert_eq!(
            only_head,
            "events differ from a position on between 4 and 5, this program had seen events up to \
             7, and none of the missing commits is its own"
        );
        let nothing = told(&[], 0, 0, 2);
        assert!(nothing.starts_with("events differ from position 1 on,"), "{nothing}");
    }
}
