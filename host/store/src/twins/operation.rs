//! Operations of a case, and how often each is drawn.

use proptest::prelude::*;

/// Operation on all stores. The numbers are small, so that a case shrinks well.
#[derive(Clone, Debug)]
pub(super) struct TwinStep {
    /// Number of the tenant.
    pub(super) tenant: u8,
    pub(super) what: TwinWhat,
    /// Number that selects an object.
    pub(super) pick: usize,
    /// Number that selects a variant of the operation.
    pub(super) more: usize,
}

/// Kind of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum TwinWhat {
    Accept,
    AcceptMany,
    AcceptOnce,
    AcceptInSteps,
    AcceptBulk,
    FanOutStep,
    CompleteFanOuts,
    Claim,
    Finish,
    FinishDisabling,
    FinishTwice,
    RecordOld,
    AwaitAll,
    Delay,
    GiveUp,
    Release,
    Retry,
    Cancel,
    Redrive,
    Replay,
    CountEnded,
    CountReplayable,
    Test,
    Subscribe,
    Edit,
    EditOld,
    RotateSigning,
    Pause,
    PauseByHost,
    Resume,
    Disable,
    DisableOld,
    NoteFailing,
    Unsubscribe,
    CreateTenant,
    UpdateTenant,
    DeleteTenant,
    DeleteDiscarded,
    Upload,
    AddVersion,
    ActivateVersion,
    DeleteVersion,
    DeletePlugin,
    BeginRollout,
    EndRollout,
    NoteCounts,
    Quarantine,
    ReleaseVersion,
    NoteFile,
    CreateBin,
    EditBin,
    ReceiveInBin,
    SearchBin,
    LookInBin,
    ForgetInBin,
    ClearBin,
    NoteReplay,
    DeleteBin,
    Reject,
    Resubmit,
    ForgetRejected,
    CreateKey,
    RevokeKey,
    UseKey,
    GiveAdminKey,
    CreateToken,
    RotateToken,
    RevokeToken,
    SignIn,
    SignOut,
    MakeLink,
    UseLink,
    MakePortalLink,
    OpenPortal,
    LeavePortal,
    EndPortal,
    Count,
    FlushFigures,
    FlushUsed,
    Prune,
    Sweep,
    Pass,
    SetBack,
    MoveAgain,
    SetForward,
    Restart,
    ListDeliveries,
    ListEvents,
    ReadEvent,
    ReadChanges,
    ReadFigures,
}

use TwinWhat::*;

/// Operations on deliveries, which are the most frequent ones of a host.
const DELIVERING: [TwinWhat; 18] = [
    AcceptOnce,
    AcceptInSteps,
    FanOutStep,
    CompleteFanOuts,
    FinishDisabling,
    FinishTwice,
    RecordOld,
    GiveUp,
    Release,
    Retry,
    Cancel,
    Redrive,
    Replay,
    CountEnded,
    CountReplayable,
    Test,
    ListDeliveries,
    ReadEvent,
];

const SUBSCRIBING: [TwinWhat; 15] = [
    Subscribe,
    Edit,
    Edit,
    EditOld,
    RotateSigning,
    Pause,
    PauseByHost,
    Resume,
    Resume,
    Disable,
    DisableOld,
    NoteFailing,
    Unsubscribe,
    Upload,
    ActivateVersion,
];

const MANAGING: [TwinWhat; 19] = [
    CreateTenant,
    CreateTenant,
    DeleteDiscarded,
    UpdateTenant,
    DeleteTenant,
    DeleteDiscarded,
    Upload,
    Upload,
    AddVersion,
    AddVersion,
    ActivateVersion,
    DeleteVersion,
    DeletePlugin,
    BeginRollout,
    EndRollout,
    NoteCounts,
    Quarantine,
    ReleaseVersion,
    NoteFile,
];

const RECEIVING: [TwinWhat; 15] = [
    CreateBin,
    EditBin,
    ReceiveInBin,
    ReceiveInBin,
    ReceiveInBin,
    SearchBin,
    LookInBin,
    ForgetInBin,
    ClearBin,
    NoteReplay,
    DeleteBin,
    Reject,
    Reject,
    Resubmit,
    ForgetRejected,
];

const SIGNING_IN: [TwinWhat; 20] = [
    CreateKey,
    CreateKey,
    RevokeKey,
    UseKey,
    GiveAdminKey,
    CreateToken,
    RotateToken,
    RevokeToken,
    SignIn,
    SignOut,
    MakeLink,
    UseLink,
    MakePortalLink,
    OpenPortal,
    OpenPortal,
    LeavePortal,
    EndPortal,
    Count,
    FlushFigures,
    FlushUsed,
];

const PASSING: [TwinWhat; 13] = [
    Prune,
    Sweep,
    Pass,
    Pass,
    Pass,
    SetBack,
    MoveAgain,
    SetForward,
    Restart,
    ListEvents,
    ReadChanges,
    ReadFigures,
    Prune,
];

/// Operations that follow each other often within a theme, so that rare sequences of them occur.
const THEMES: [&[TwinWhat]; 6] = [
    &[Accept, AcceptMany, Claim, Finish, Finish, Retry, Cancel, Redrive, RecordOld, FinishTwice, Pass, GiveUp],
    &[Accept, Finish, Finish, Prune, Pass, AcceptInSteps, CompleteFanOuts, Replay, Restart, ReadEvent],
    &[Accept, Finish, Claim, SetBack, MoveAgain, Delay, AwaitAll, Edit, EditOld, DisableOld, Resume, PauseByHost, Pass],
    &[
        Upload,
        AddVersion,
        ActivateVersion,
        BeginRollout,
        EndRollout,
        DeleteVersion,
        DeletePlugin,
        Finish,
        Accept,
        Sweep,
    ],
    &MEETING,
    &RECEIVING,
];

/// Operations of the theme of credentials, statistics and time.
const MEETING: [TwinWhat; 16] = [
    CreateKey,
    RevokeKey,
    SignIn,
    SignOut,
    MakeLink,
    UseLink,
    UseLink,
    MakePortalLink,
    OpenPortal,
    OpenPortal,
    EndPortal,
    UseKey,
    FlushUsed,
    Count,
    FlushFigures,
    Pass,
];

/// Returns a strategy for the operations of a case, with a theme or without.
pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<TwinStep>> {
    let with_theme = |theme: &'static [TwinWhat]| {
        let what = prop_oneof![1 => what().boxed(), 2 => proptest::sample::select(theme).boxed()];
        proptest::collection::vec(step(what), 1..=most).boxed()
    };
    let general = proptest::collection::vec(step(what()), 1..=most).boxed();
    let themes = THEMES.into_iter().map(|theme| (1, with_theme(theme)));
    proptest::strategy::Union::new_weighted(std::iter::once((4, general)).chain(themes).collect())
}

/// Returns a strategy for the kind of an operation.
fn what() -> impl Strategy<Value = TwinWhat> {
    prop_oneof![
        4 => prop_oneof![Just(Accept), Just(Accept), Just(AcceptMany)],
        8 => prop_oneof![Just(Claim), Just(Finish), Just(Finish)],
        6 => proptest::sample::select(DELIVERING.to_vec()),
        4 => proptest::sample::select(SUBSCRIBING.to_vec()),
        3 => proptest::sample::select(MANAGING.to_vec()),
        3 => proptest::sample::select(RECEIVING.to_vec()),
        2 => proptest::sample::select(SIGNING_IN.to_vec()),
        4 => proptest::sample::select(PASSING.to_vec()),
    ]
}

/// Returns a strategy for one operation.
fn step(what: impl Strategy<Value = TwinWhat>) -> impl Strategy<Value = TwinStep> {
    // Most operations meet at one tenant.
    let tenant = prop_oneof![6 => Just(0_u8), 1 => Just(1)];
    (tenant, what, 0..8_usize, 0..8_usize).prop_map(|(tenant, what, pick, more)| TwinStep { tenant, what, pick, more })
}
