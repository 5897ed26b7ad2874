//! Tests of the jobs that share a commit, and of the cost of a failure.

use super::*;
use crate::sqlite::rows::EventRow;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::ids::TenantId;

/// Sorts jobs and returns the commits that they would share. `f` is an outcome, `o` another write, `e` an exclusive one, a digit a
/// write of that many hundred rows, all of tenant `A`. A capital letter before one of them names its tenant.
fn batches(written: &str) -> String {
    let (queue, jobs) = mpsc::unbounded_channel();
    let mut owner = Owner::Tenant(TenantId("A".into()));
    for letter in written.chars() {
        let (mode, rows) = match letter {
            'A'..='Z' => {
                owner = Owner::Tenant(TenantId(letter.to_string().into()));
                continue;
            }
            'f' => (WriteMode::Outcome, 2),
            'o' => (WriteMode::Shared, 2),
            'e' => (WriteMode::Exclusive, 2),
            digit => (WriteMode::Intake, u64::from(digit.to_digit(36).expect("a digit")) * 100),
        };
        let write: Write = Box::new(|_| Box::new(|_| ()));
        let terms = Terms { owner: owner.clone(), rows };
        assert!(queue.send(WriteJob { write, mode, terms, _queue_permit: None }).is_ok());
    }
    drop(queue);
    let mut waiting = WriteQueue::new(jobs);
    let all = std::iter::from_fn(|| waiting.next_batch(ROWS_MAX));
    let all: Vec<String> = all.map(|batch| batch.iter().map(letter).collect()).collect();
    all.join(" ")
}

/// Returns the letter of a job, as [`batches`] parses it.
fn letter(job: &WriteJob) -> String {
    let kind = match job.mode {
        WriteMode::Outcome => "f".to_owned(),
        WriteMode::Shared => "o".to_owned(),
        WriteMode::Exclusive => "e".to_owned(),
        WriteMode::Intake => std::char::from_digit((job.terms.rows / 100) as u32, 36).into_iter().collect(),
    };
    match &job.terms.owner {
        Owner::Tenant(tenant) if &*tenant.0 != "A" => format!("{tenant}{kind}"),
        _ => kind,
    }
}

#[test]
fn outcomes_go_first_and_others_of_a_tenant_keep_their_order() {
    assert_eq!(batches("ofof"), "ffoo");
    assert_eq!(batches("12f3"), "f123");
    assert_eq!(batches("kffk"), "ff k k");
    assert_eq!(batches("4444f"), "f444 4");
    assert_eq!(batches("oeoef"), "fo e o e");
    assert_eq!(batches("eef"), "f e e");
    assert_eq!(batches("eof"), "f e o");
    assert_eq!(batches(&"f".repeat(600)), ["f".repeat(512), "f".repeat(88)].join(" "));
    let both = "o".repeat(600) + &"f".repeat(512);
    assert_eq!(batches(&both), ["f".repeat(512) + &"o".repeat(512), "o".repeat(88)].join(" "));
}

#[test]
fn a_tenant_with_little_does_not_wait_behind_what_another_has_queued() {
    // Without turns, it would be in the third commit.
    assert_eq!(batches("999999Bo"), "9Bo9 99 99");
    // Large writes of several tenants: the small one is in the second commit, not behind all of them.
    assert_eq!(batches("kkCkkDkkBo"), "k Bo Ck Dk k Ck Dk");
}

#[tokio::test]
async fn a_caller_whose_rows_cannot_be_written_gets_the_error() {
    let connection = Connection::open_in_memory().expect("a database");
    connection.execute_batch("CREATE TABLE marks (mark)").expect("a table, and none of events");
    let context = WriterContext {
        files: OpenFiles::none(),
        room: Arc::new(DiskRoom::unbounded()),
        pending: Arc::default(),
        damage: Damage::default(),
        share: Caps::NONE,
    };
    let writer = Writer::start(connection, context).expect("a thread");
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let event = Arc::new(Event {
        id: EventId::new(),
        name: String::new(),
        module: Module::Contact,
        entity_id: None,
        received_at_ms: 0,
        payload: bytes::Bytes::new(),
    });
    let row = EventRow { tenant: TenantId::parse("t").expect("a name"), event, fan_out: 0 };
    let add = move |tx: &IntakeTx<'_, '_>| {
        tx.add_event(row);
        Ok(())
    };
    // While the first write runs, the others are queued and share a transaction.
    let (first, hot, shared, _) = tokio::join!(
        writer.change(terms(), move |_| Ok(gone.recv().is_ok()), |_| {}),
        writer.intake(terms(), add, |_| {}),
        writer.write(terms(), insert_mark, |_| {}),
        async { go.send(()) },
    );
    assert!(first.is_ok_and(|waited| waited));
    assert!(matches!(&hot, Err(StoreError::Commit(cause)) if cause.to_string().contains("events")), "{hot:?}");
    assert!(matches!(&shared, Err(StoreError::Commit(cause)) if cause.to_string().contains("events")), "{shared:?}");
    assert!(matches!(writer.write(terms(), count_marks, |_| {}).await, Ok(0)), "it goes on, and nothing was written");
}

fn count_marks(tx: &AdminTx<'_, '_>) -> Result<i64, StoreError> {
    Ok(tx.query_row("SELECT COUNT(*) FROM marks", [], |row| row.get::<_, i64>(0))?)
}

fn terms() -> Terms {
    Terms::small(Owner::Host)
}

fn insert_mark(tx: &AdminTx<'_, '_>) -> Result<usize, StoreError> {
    Ok(tx.execute("INSERT INTO marks VALUES (1)", [])?)
}
