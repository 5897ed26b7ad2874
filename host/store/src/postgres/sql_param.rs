//! Parameters of statements. Each has its type in the database, so that a statement can be sent with its values, without being prepared.

use std::borrow::Cow;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Parameters of a statement. Numbers are `i64`, states and kinds `i16`, texts `&str`, ids `Uuid`, bytes `&[u8]`.
pub(super) type SqlParams<'p> = &'p [&'p (dyn SqlParam + Sync)];

/// Parameter of a statement.
pub(super) trait SqlParam {
    /// Returns the type of the parameter in the database.
    fn sql_type(&self) -> Type;

    /// Returns the value for the driver.
    fn value(&self) -> &(dyn ToSql + Sync);
}

/// Type of values of which a statement may have one.
trait SqlValue {
    const TYPE: Type;
}

/// Type of values of which a statement may have a list.
trait SqlElement {
    const LIST: Type;
}

impl<T: SqlValue + ToSql + Sync> SqlParam for T {
    fn sql_type(&self) -> Type {
        T::TYPE
    }

    fn value(&self) -> &(dyn ToSql + Sync) {
        self
    }
}

macro_rules! sql_types {
    ($($rust:ty => $one:ident, $list:ident;)+) => {$(
        impl SqlValue for $rust {
            const TYPE: Type = Type::$one;
        }

        impl SqlElement for $rust {
            const LIST: Type = Type::$list;
        }
    )+};
}

sql_types! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Cow<'_, str> => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    [u8] => BYTEA, BYTEA_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

impl<T: SqlElement> SqlValue for [T] {
    const TYPE: Type = T::LIST;
}

impl<T: SqlElement> SqlValue for Vec<T> {
    const TYPE: Type = T::LIST;
}

impl<T: SqlValue + ?Sized> SqlValue for &T {
    const TYPE: Type = T::TYPE;
}

impl<T: SqlElement + ?Sized> SqlElement for &T {
    const LIST: Type = T::LIST;
}

impl<T: SqlValue> SqlValue for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: SqlElement> SqlElement for Option<T> {
    const LIST: Type = T::LIST;
}
