//! Tests of moves beside a store in use.

use super::*;
use crate::sqlite::lose_token;
use crate::usage_world::{What, WorldStep};
use filled::{FILLING, finished, in_use};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Maximum number of operations until the move asks the host to end: a list of the answers must have all rows.
const STEPS_MAX: usize = 120;

/// Maximum number of operations after that.
const LAST_STEPS: usize = 20;

/// Returns the request of a move beside a store in use.
fn live_request<'m>(folder: &'m Path, url: &'m str) -> MoveRequest<'m> {
    MoveRequest { is_live: true, ..request(folder, url) }
}

/// Store that operations change until a move asks its host to end.
struct InUse {
    folder: std::path::PathBuf,
    may_end: Arc<AtomicBool>,
    /// Notified when the store may end.
    asking: Arc<Notify>,
    task: tokio::task::JoinHandle<Filled>,
}

impl InUse {
    /// Begins the operations, which are repeated. The last ones follow when the move has asked.
    async fn begin(steps: Vec<WorldStep>, last: Vec<WorldStep>) -> InUse {
        let Filled { folder, .. } = filled_folder().await;
        let path = folder.path().to_owned();
        let may_end = Arc::new(AtomicBool::new(false));
        let asked = may_end.clone();
        let notify = Arc::new(Notify::new());
        let asking = notify.clone();
        let world = in_use(&folder);
        let task = tokio::spawn(async move {
            for step in steps.into_iter().cycle().take(STEPS_MAX) {
                if asked.load(Ordering::Relaxed) {
                    break;
                }
                world.take(step).await;
            }
            while !asked.load(Ordering::Relaxed) {
                asking.notified().await;
            }
            for step in last.into_iter().take(LAST_STEPS) {
                world.take(step).await;
            }
            finished(folder, world, [0; 32]).await
        });
        InUse { folder: path, may_end, asking: notify, task }
    }

    /// Lets the operations end.
    fn end(&self) {
        self.may_end.store(true, Ordering::Relaxed);
        self.asking.notify_one();
    }

    /// Moves the store, whose host ends when it is asked to.
    async fn move_to(&self, database: &TestDatabase) -> Result<Vec<String>, StoreError> {
        let mut steps = Vec::new();
        let note = |step: MoveStep<'_>| {
            if let MoveStep::HostMayEnd { process } = step {
                assert_eq!(process, std::process::id().to_string());
                self.end();
            }
            steps.push(format!("{step:?}"));
        };
        move_to_postgres(live_request(&self.folder, &database.url()), note).await?;
        Ok(steps)
    }
}

/// Moves a store in use. Returns the differences between the last answers of its host and those of the moved store.
async fn move_in_use(steps: Vec<WorldStep>, last: Vec<WorldStep>) -> Vec<String> {
    let used = InUse::begin(steps, last).await;
    let database = TestDatabase::new().await;
    let steps = used.move_to(&database).await.expect("moved");
    assert!(steps.iter().any(|step| step.starts_with("CaughtUp")), "{steps:?}");
    assert_eq!(steps[steps.len() - 2..], ["HostEnded", "Committing"]);
    let Filled { folder, before, claimed, .. } = used.task.await.expect("the operations");
    let store = open_moved(folder.path(), &database).await;
    let mut found = differences(&before, &answers(&store).await);
    found.extend((claims(&store).await != claimed).then(|| "claims".to_owned()));
    // The counters of usage, which are not copied.
    let world = World::on(store, PostgresRows::of(database).await);
    world.check().await;
    found
}

fn steps() -> Vec<WorldStep> {
    steps_of(&FILLING)
}

fn steps_of(steps: &[(What, usize, usize)]) -> Vec<WorldStep> {
    steps.iter().map(|&(what, pick, size)| WorldStep { tenant: 0, what, pick, size }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_moved_with_its_last_changes() {
    let found = move_in_use(steps(), steps()).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The name of a deleted plugin is free at once: its versions get another, which is a part of their key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_are_deleted_beside_a_move_do_not_arrive() {
    let steps = [(What::Upload, 0, 0), (What::AddVersion, 2, 0), (What::Upload, 1, 0), (What::AddVersion, 3, 0)];
    let last = [(What::DeleteVersion, 3, 0), (What::DeletePlugin, 0, 0), (What::DeletePlugin, 1, 0)];
    let found = move_in_use(steps_of(&steps), steps_of(&last)).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_move_of_a_folder_without_a_host_needs_no_journal() {
    let Filled { folder, before, .. } = filled_folder().await;
    let database = TestDatabase::new().await;
    let mut steps = Vec::new();
    let note = |step: MoveStep<'_>| steps.push(format!("{step:?}"));
    move_to_postgres(live_request(folder.path(), &database.url()), note).await.expect("moved");
    assert!(!steps.iter().any(|step| step.starts_with("CaughtUp")), "{steps:?}");
    let found = differences(&before, &answers(&*open_moved(folder.path(), &database).await).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_goes_on_after_a_move_that_was_dropped() {
    let used = InUse::begin(steps(), steps()).await;
    let database = TestDatabase::new().await;
    // Once while rows are copied, and once while changes are.
    for last in ["Copying", "CaughtUp"] {
        let (reached, mut is_reached) = mpsc::unbounded_channel();
        let note = move |step: MoveStep<'_>| {
            if format!("{step:?}").starts_with(last) {
                let _ = reached.send(());
            }
        };
        let url = database.url();
        tokio::select! {
            biased;
            _ = is_reached.recv() => {}
            moved = move_to_postgres(live_request(&used.folder, &url), note) => panic!("{moved:?}"),
        }
    }
    // The same database, from the beginning.
    used.move_to(&database).await.expect("moved");
    let Filled { folder, before, .. } = used.task.await.expect("the operations");
    let found = differences(&before, &answers(&*open_moved(folder.path(), &database).await).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A journal that somebody removed would hide changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_journal_ends_the_move_before_the_host_ends() {
    let used = InUse::begin(steps(), steps()).await;
    let database = TestDatabase::new().await;
    let folder = used.folder.clone();
    let note = move |step: MoveStep<'_>| {
        assert!(!matches!(step, MoveStep::HostMayEnd { .. } | MoveStep::CaughtUp { .. }), "{step:?}");
        if matches!(step, MoveStep::Checking) {
            lose_token(&folder);
        }
    };
    let refused = move_to_postgres(live_request(&used.folder, &database.url()), note).await;
    let shown = refused.expect_err("refused").to_string();
    assert!(shown.contains("the journal of the changes was removed"), "{shown}");
    used.end();
    let Filled { folder, .. } = used.task.await.expect("the operations");
    assert_nothing_moved(&folder, &database).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 10, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_beside_a_move_are_moved(steps in sequences()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let found = runtime.block_on(move_in_use(steps.clone(), steps));
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
