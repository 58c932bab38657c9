//! What comes in, checked: bodies, numbers in paths, texts.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// A body of JSON. One that is none is told in JSON, too.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(Failure::Refused(rejection.status(), rejection.body_text())),
        }
    }
}

/// The number in a path. What is none is the number of nothing.
pub(crate) fn id(path: Result<Path<i64>, PathRejection>) -> Result<i64, Failure> {
    path.map(|Path(id)| id).map_err(|_| Failure::not_found("there is no such page"))
}

/// A text of one line, without blanks around it.
pub(crate) fn text(name: &str, value: &str, most: usize) -> Result<String, Failure> {
    let value = value.trim();
    if value.is_empty() || value.chars().count() > most || value.chars().any(char::is_control) {
        return Err(Failure::senseless(format!("`{name}` is to be one line of 1 to {most} characters")));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_the_database_takes_and_people_can_read() {
        assert_eq!(text("name", " Asha Traders ", 20).unwrap(), "Asha Traders");
        for wrong in ["", "  ", "a\0b", "a\nb", "longer than twenty characters"] {
            assert!(text("name", wrong, 20).is_err(), "{wrong:?}");
        }
    }
}
