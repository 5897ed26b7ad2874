//! Tests of commits that fail.

use super::*;
use crate::sqlite::rows::EventRow;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::ids::TenantId;

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
