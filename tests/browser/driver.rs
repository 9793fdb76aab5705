//! The browser of this suite: it looks at a lab.

use std::path::Path;

pub(crate) use crate::browser::Browser;
use crate::lab::{Lab, PASSWORD};

/// Says why the suite is skipped, if it is.
pub(crate) fn skipped(test: &str) -> bool {
    let missing: Vec<&str> = ["chromium", "chromedriver"]
        .into_iter()
        .filter(|p| !Path::new("/usr/bin").join(p).exists())
        .collect();
    if missing.is_empty() {
        return false;
    }
    println!("skipped: {test}: not installed: {}", missing.join(", "));
    true
}

impl Browser {
    /// Opens the login page of `lab`.
    pub(crate) async fn open(lab: &Lab) -> Self {
        Self::open_with(lab, &[]).await
    }

    /// Likewise, with more arguments for the browser.
    pub(crate) async fn open_with(lab: &Lab, more: &[&str]) -> Self {
        Self::open_at(&lab.url, more).await
    }

    /// The first login of all, with the change of password it asks for.
    pub(crate) async fn first_login(&self, lab: &Lab) {
        self.log_in_first("admin", &lab.first_password(), PASSWORD)
            .await;
    }
}
