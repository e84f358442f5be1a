//! What can be wrong with a store: one mistake each that somebody really makes.

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One mistake of a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Flaw {
            $($(#[$doc])* $name,)*
        }

        impl Flaw {
            /// Every flaw there is.
            pub const ALL: &[Flaw] = &[$(Flaw::$name),*];
        }
    };
}

flaws! {
    // Writing.
    /// Every commit skips a position.
    LeavesGaps,
    /// Events of a commit are written in reverse.
    ReversesCommits,
    /// A commit keeps its first 1,000 events.
    CutsLargeCommits,
    /// A commit is answered with the positions after its events.
    AnswersOnePositionTooHigh,
    /// A commit without events is answered with positions 0 and 0.
    AnswersZeroWithoutEvents,
    /// A commit without events writes a marker into the log.
    WritesEmptyCommits,
    /// Metadata is not stored.
    ForgetsMetadata,
    /// A payload is stored up to its first NUL.
    EndsPayloadsAtNul,
    /// Tags are stored in the order of their text.
    SortsTags,
    /// A tag with an empty value is not stored.
    DropsTagsWithoutValue,
    /// Events are written, and stay when a check refuses them.
    WritesBeforeItChecks,
    /// Of a commit with an invalid event what stands before it is written.
    WritesUpToTheInvalidEvent,
    /// An append that is dropped while it waits has written its first event.
    WritesInTwoSteps,
    /// After a refusal nothing more is taken.
    FailsAfterARefusal,

    // Publishing.
    /// A commit's sync never comes.
    NeverSyncs,
    /// A commit is synced at once and published with the next one.
    PublishesOneCommitLate,
    /// The head moves before the events are there.
    PublishesBeforeItWrites,
    /// The head moves with every event of a commit.
    PublishesEventByEvent,
    /// Positions are taken in order and written in any order.
    FillsGapsLater,
    /// The head is the number of commits.
    HeadCountsCommits,
    /// The head is ten above the last event.
    HeadRunsAhead,
    /// A head that was handed out does not move.
    HeadIsACopy,
    /// Every other look at the head says one less.
    HeadGoesBack,

    // Identity.
    /// A fresh log holds an event of the store's own.
    StartsWithAnEvent,
    /// Every question for the identity has another answer.
    IdentityChanges,
    /// All logs have the same identity.
    IdentityIsTheSameEverywhere,
    /// All logs are one.
    SharesOneLog,

    // Parallel commits.
    /// The log can change between checks and writing.
    ChecksBeforeTheLock,
    /// The log can change between taking positions and writing.
    TakesPositionsBeforeTheLock,
    /// The instant is taken before the place in the log.
    TakesTimeBeforeTheLock,
    /// Other commits can come between the events of one.
    WritesEventByEvent,

    // Checks.
    /// A commit without events is not checked.
    SkipsChecksWithoutEvents,
    /// The key is checked before tracking.
    ChecksKeyFirst,
    /// The condition is checked before tracking and key.
    ChecksConditionFirst,
    /// A free key is enough: the condition is not checked.
    SkipsTheConditionUnderAKey,
    /// Checks see the log without its newest commit.
    ChecksMissTheNewestCommit,
    /// A refused commit's key is remembered.
    KeepsTheKeyOfARefusedCommit,
    /// A refused commit's tracking is stored.
    KeepsTheTrackingOfARefusedCommit,
    /// A refused commit's instant counts as the last one.
    KeepsTheTimeOfARefusedCommit,

    // Conditions.
    /// No condition refuses.
    IgnoresConditions,
    /// A condition is on every event, whatever its filter.
    TakesEveryConditionForEverything,
    /// A match at the condition's position is a conflict.
    ConditionsIncludeTheirPosition,
    /// A match just after the condition's position is none.
    ConditionsSkipOne,
    /// A condition considers the newest 100 events.
    ConditionsSeeTheNewest100,
    /// A conflict says the first match.
    ConflictsNameTheFirstMatch,
    /// A condition is met only if its position is the last match.
    TakesThePositionForAVersion,
    /// A commit conflicts with its own events.
    ChecksItsOwnEvents,
    /// Conditions after the first are not considered.
    ChecksTheFirstConditionOnly,
    /// Several conditions refuse only if all of them are violated.
    RefusesOnlyIfAllAreViolated,
    /// Every condition counts from the lowest position of all.
    TakesTheLowestPositionForAll,
    /// Every condition counts from the highest position of all.
    TakesTheHighestPositionForAll,
    /// A conflict says the match of the first condition that is violated.
    ConflictsNameTheFirstViolation,
    /// A conflict says the position that the first condition is after.
    ConflictsNameTheFirstPosition,
    /// Conditions after the first see the log without its newest commit.
    LaterConditionsMissTheNewestCommit,
    /// A position above the head is taken for the head.
    AcceptsPositionsAboveTheHead,

    // Keys.
    /// Keys are not stored.
    ForgetsKeys,
    /// The newest 100 keys are remembered.
    ForgetsOldKeys,
    /// A key's commit is said to end at its first event.
    KeysFindTheFirstEventOnly,
    /// A key's refusal says the head instead of the commit.
    KeyRefusalsSayTheHead,
    /// Keys are compared without regard to case.
    KeysIgnoreCase,
    /// Another request under a used key is taken for the same.
    IgnoresDigests,
    /// Eight bytes of a digest are compared.
    ComparesHalfADigest,
    /// A key without events is left out instead of refused.
    AcceptsKeysWithoutEvents,
    /// An empty name is replaced by a question mark.
    AcceptsEmptyNames,
    /// A tag of the same text makes a key used.
    TakesTagsForKeys,

    // Tracking.
    /// Tracking without events is not stored.
    TracksOnlyWithEvents,
    /// The origin of a source is not stored.
    TracksWithoutOrigin,
    /// The origin of a source is not compared.
    IgnoresOrigins,
    /// A source's position that is stored is taken again.
    TakesTheSamePositionAgain,
    /// A source's position has to be one above what is stored.
    NeedsTheNextPosition,
    /// A tracking refusal says the head instead of where it was stored.
    TrackingRefusalsSayTheHead,
    /// All sources are one.
    TracksAllSourcesTogether,

    // Filters.
    /// An item with two types matches nothing.
    NeedsEveryType,
    /// An item's tags are alternatives.
    TakesAnyTag,
    /// An item matches where as many tags match as it has, twice included.
    CountsTagsToCompare,
    /// An item with tags matches every type.
    IgnoresTypesWhereThereAreTags,
    /// Items after the first are not considered.
    TakesTheFirstItemOnly,
    /// Types of one item are combined with tags of another.
    MixesItems,
    /// An event is given once for each item that it matches.
    RepeatsOverlaps,
    /// An item without types and tags matches nothing.
    EverythingMatchesNothing,
    /// A filter without items matches everything.
    NothingMatchesEverything,
    /// Types and tags that no event has are left out of a filter.
    LeavesOutUnknownTerms,
    /// A tag finds all that begin like it.
    FindsTagsByPrefix,
    /// A type of the same text is taken for a tag.
    TakesTypesForTags,
    /// An event is found by its first four tags.
    IndexesFourTags,

    // Reads.
    /// 10 comes before 2.
    SortsPositionsAsText,
    /// Backwards is read forwards.
    IgnoresDirection,
    /// The event at `after` is given.
    ReadsIncludeAfter,
    /// The event at `upto` is not given.
    ReadsExcludeUpto,
    /// A read backwards goes on to the start of the log.
    BackwardsForgetsAfter,
    /// A read gives as much as there is.
    IgnoresTheLimit,
    /// Backwards the limit counts from the low end.
    LimitsBackwardsFromTheLowEnd,
    /// A limit of 0 is no limit.
    TakesLimitZeroForNone,
    /// A batch says the `upto` that was asked for, above the head too.
    SaysTheAskedUpto,
    /// A batch says the head, beyond its read's `upto` too.
    SaysTheHead,
    /// A batch says its last event, and no progress without one.
    SaysTheLastMatch,
    /// A batch that was cut says the end of its read.
    SaysTheBound,
    /// What was read is not given again.
    ReadsTakeAway,
    /// An empty log cannot be read.
    EmptyLogIsAnError,
    /// A long name in a filter is an error.
    FailsOnLongNames,

    // Look-ups.
    /// `last` is the first match.
    LastSaysTheFirst,
    /// `last` looks at the whole log.
    LastIgnoresUpto,
    /// `last` of no match is position 0.
    LastOfNothingIsStart,
    /// `last` and `count` above the head are errors.
    RefusesLookUpsAboveTheHead,
    /// `last` and `count` consider the newest 1,000 events.
    LooksUpTheNewest1000,
    /// `count` counts commits.
    CountsCommits,
    /// `count` does not count the event at `upto`.
    CountExcludesUpto,
    /// `count` counts a tag twice that was given twice.
    CountsATagAsOftenAsGiven,
    /// `count` of an unknown tag is an error.
    UnknownTagIsAnError,
    /// `types` says a type as often as it was written.
    TypesAsOftenAsWritten,
    /// `types` says the type of the last event alone.
    TypesOfTheNewest,

    // Time.
    /// `recorded_at` follows a clock that goes back.
    ClockGoesBack,
    /// Each event of a commit has its own `recorded_at`.
    StampsEveryEvent,
    /// `recorded_at` is made up when an event is read.
    StampsOnRead,
    /// An instant is taken from the caller, if there is one, else from the clock.
    AcceptsAnyTime,
    /// The clock is used, whatever the caller says.
    IgnoresTheCallersTime,
    /// A caller's instant is recorded even if it went back.
    TakesTimeThatWentBack,
    /// What is accepted says when the commit before it was recorded.
    AcceptedSaysTheTimeBefore,
    /// What is accepted says the caller's instant as it was given.
    AcceptedSaysTheTimeGiven,
    /// What is accepted and records nothing says the clock.
    AcceptedSaysTheClockForNothing,

    // Limits.
    /// No limit is held to, apart from those of batches.
    IgnoresLimits,
    /// Of several filters each may be as large as all of them together.
    BoundsEachFilterAlone,
    /// What is just within a limit is refused.
    LimitsAreOneTooSmall,
    /// The limits that are said are the defaults, whatever holds.
    SaysOtherLimits,
    /// A batch is as large as its read allows.
    IgnoresBatchLimits,
    /// A batch that is full says that it considered the rest too.
    LosesWhatDoesNotFit,
    /// An event larger than a batch may be is passed over.
    LetsNothingLargeThrough,

    // Names.
    /// Blanks around names are not stored.
    TrimsNames,
    /// Names are stored up to 128 characters.
    CutsLongNames,

    // The end.
    /// The end is not said to who waits.
    EndsInSilence,
    /// A store that has ended takes commits.
    TakesCommitsAfterTheEnd,

    // Reopening.
    /// `recorded_at` of all events changes.
    ReopeningStampsAgain,
    /// The head is 0 until the next commit.
    ReopeningForgetsTheHead,
    /// Positions start at 1 again.
    ReopeningStartsAtOne,
    /// Keys are gone.
    ReopeningForgetsKeys,
    /// Tracking is gone.
    ReopeningForgetsTracking,
    /// Tracking that was committed without events is gone.
    ReopeningForgetsTrackingAlone,
    /// Events are not found by their tags.
    ReopeningForgetsTags,
    /// The epoch is another one.
    ReopeningChangesTheIdentity,
    /// The last commit is gone.
    ReopeningLosesTheLastCommit,
    /// The last instant is gone.
    ReopeningForgetsTheTime,
}
