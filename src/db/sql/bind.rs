//! Values of a statement, on their way to either engine.

use std::borrow::Cow;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::encode::Encode;
use sqlx::error::BoxDynError;
use sqlx::{Arguments, Database, Decode, Error, Type};

use crate::model::Stamp;

/// One value. `null` has a type too: PostgreSQL asks for it.
#[derive(Debug)]
pub(crate) enum Value<'q> {
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(Option<bool>),
    Text(Option<Cow<'q, str>>),
    Blob(Option<Cow<'q, [u8]>>),
    /// It could not be written as JSON.
    Unfit(serde_json::Error),
}

impl<'q> Value<'q> {
    /// Adds it to the arguments of a statement.
    pub(super) fn add_to<A>(self, arguments: &mut A) -> Result<(), Error>
    where
        A: Arguments,
        for<'a> Option<i64>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<f64>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<bool>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<String>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<&'a str>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<Vec<u8>>: Encode<'a, A::Database> + Type<A::Database>,
        for<'a> Option<&'a [u8]>: Encode<'a, A::Database> + Type<A::Database>,
    {
        let added = match self {
            Self::Int(value) => arguments.add(value),
            Self::Real(value) => arguments.add(value),
            Self::Bool(value) => arguments.add(value),
            Self::Text(None) => arguments.add(None::<String>),
            Self::Text(Some(Cow::Owned(text))) => arguments.add(Some(text)),
            Self::Text(Some(Cow::Borrowed(text))) => arguments.add(Some(text)),
            Self::Blob(None) => arguments.add(None::<Vec<u8>>),
            Self::Blob(Some(Cow::Owned(bytes))) => arguments.add(Some(bytes)),
            Self::Blob(Some(Cow::Borrowed(bytes))) => arguments.add(Some(bytes)),
            Self::Unfit(error) => Err(error.into()),
        };
        added.map_err(Error::Encode)
    }

    /// PostgreSQL keeps every character but NUL, and refuses the whole statement for one.
    pub(super) fn without_nul(self) -> Self {
        match self {
            Self::Text(Some(text)) if text.contains('\0') => {
                Self::Text(Some(Cow::Owned(text.replace('\0', "\u{fffd}"))))
            }
            other => other,
        }
    }

    pub(super) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Int(value) => Value::Int(value),
            Self::Real(value) => Value::Real(value),
            Self::Bool(value) => Value::Bool(value),
            Self::Text(value) => Value::Text(value.map(|text| Cow::Owned(text.into_owned()))),
            Self::Blob(value) => Value::Blob(value.map(|bytes| Cow::Owned(bytes.into_owned()))),
            Self::Unfit(error) => Value::Unfit(error),
        }
    }
}

/// What a statement takes for a placeholder.
pub(crate) trait Bind<'q> {
    /// Its absence.
    const NULL: Value<'static>;

    /// As a value.
    fn value(self) -> Value<'q>;
}

/// `type => how it becomes a value, kind of value` for plain types and references to them.
macro_rules! binds {
    ($($type:ty: $kind:ident, $it:ident => $value:expr;)*) => {$(
        impl<'q> Bind<'q> for $type {
            const NULL: Value<'static> = Value::$kind(None);

            fn value(self) -> Value<'q> {
                let $it = self;
                Value::$kind(Some($value))
            }
        }
    )*};
}

binds! {
    i64: Int, it => it;
    &i64: Int, it => *it;
    i32: Int, it => i64::from(it);
    u32: Int, it => i64::from(it);
    Stamp: Int, it => it.0;
    &Stamp: Int, it => it.0;
    f64: Real, it => it;
    bool: Bool, it => it;
    &bool: Bool, it => *it;
    String: Text, it => Cow::Owned(it);
    &'q String: Text, it => Cow::Borrowed(it.as_str());
    &'q str: Text, it => Cow::Borrowed(it);
    &'q &'q str: Text, it => Cow::Borrowed(*it);
    Vec<u8>: Blob, it => Cow::Owned(it);
    &'q Vec<u8>: Blob, it => Cow::Borrowed(it.as_slice());
    &'q [u8]: Blob, it => Cow::Borrowed(it);
}

impl<'q, T: Bind<'q>> Bind<'q> for Option<T> {
    const NULL: Value<'static> = T::NULL;

    fn value(self) -> Value<'q> {
        self.map_or(T::NULL, T::value)
    }
}

impl<'q, T> Bind<'q> for &'q Option<T>
where
    &'q T: Bind<'q>,
{
    const NULL: Value<'static> = <&'q T as Bind<'q>>::NULL;

    fn value(self) -> Value<'q> {
        self.as_ref().value()
    }
}

/// A value kept as JSON in a text column: as it was written, on either engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize> Json<T> {
    fn written<'q>(&self) -> Value<'q> {
        match serde_json::to_string(&self.0) {
            Ok(text) => Value::Text(Some(Cow::Owned(text))),
            Err(error) => Value::Unfit(error),
        }
    }
}

impl<'q, T: Serialize> Bind<'q> for Json<T> {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'q> {
        self.written()
    }
}

impl<'q, T: Serialize> Bind<'q> for &'q Json<T> {
    const NULL: Value<'static> = Value::Text(None);

    fn value(self) -> Value<'q> {
        self.written()
    }
}

impl<DB: Database, T> Type<DB> for Json<T>
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(ty: &DB::TypeInfo) -> bool {
        String::compatible(ty)
    }
}

impl<'r, DB: Database, T: DeserializeOwned> Decode<'r, DB> for Json<T>
where
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = <&str>::decode(value)?;
        Ok(Self(serde_json::from_str(text)?))
    }
}
