//! AWS access keys and the configuration that goes with them. The key's id carries an
//! account number as real ones do, so that tools which read it see an account. Whoever uses
//! the configuration as it is asks us instead of AWS (`endpoint_url`, heeded by the AWS
//! command line since 2.13 and by current SDKs); the keys alone call nobody.

use super::draw::{BASE64, Draw};
use super::work::Work;
use super::{Error, File};

const REGIONS: &[&str] = &["eu-central-1", "eu-west-1", "us-east-1", "eu-north-1"];
/// RFC 4648, as key ids are written.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An access key of one account.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
}

impl Key {
    /// A key of `account`. The 16 letters after `AKIA` are 80 bits: a one, the account
    /// in 40 bits, and what AWS does not explain.
    pub(super) fn draw(draw: &mut Draw, account: u64) -> Self {
        let rest = u128::from(draw.below(1 << 39));
        let bits = (1u128 << 79) | (u128::from(account) << 39) | rest;
        let letters = (0..16).rev().map(|at| {
            let index = usize::try_from((bits >> (5 * at)) & 31).unwrap_or(0);
            BASE32.get(index).map_or('A', |b| char::from(*b))
        });
        Self {
            id: format!("AKIA{}", letters.collect::<String>()),
            secret: draw.letters(BASE64, 40),
        }
    }
}

/// A twelve-digit account number.
pub(super) fn account(draw: &mut Draw) -> u64 {
    draw.between(100_000_000_000, 999_999_999_999)
}

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 14, 120);
    let account = account(&mut work.draw);
    let (own, backup) = (
        Key::draw(&mut work.draw, account),
        Key::draw(&mut work.draw, account),
    );
    let region = work.draw.pick(REGIONS);
    let profile = work
        .draw
        .pick(&["backup", "prod", "archive", "s3-sync", "billing"]);
    let short = &work.setting.short;
    let credentials = format!(
        "[default]\n\
         aws_access_key_id = {}\n\
         aws_secret_access_key = {}\n\
         \n\
         [{profile}]\n\
         aws_access_key_id = {}\n\
         aws_secret_access_key = {}\n",
        own.id, own.secret, backup.id, backup.secret
    );
    let config = format!(
        "[default]\n\
         region = {region}\n\
         output = json\n\
         endpoint_url = {url}\n\
         \n\
         [profile {profile}]\n\
         region = {region}\n\
         endpoint_url = {url}\n\
         s3 =\n    addressing_style = path\n\
         \n\
         [profile admin]\n\
         role_arn = arn:aws:iam::{account}:role/{short}-admin\n\
         source_profile = default\n\
         endpoint_url = {url}\n",
        url = work.url
    );
    let folder = format!("{}/.aws", work.setting.home);
    Ok(vec![
        work.text(format!("{folder}/credentials"), 0o600, at, credentials),
        work.text(format!("{folder}/config"), 0o600, at, config),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Kind;

    #[test]
    fn the_account_can_be_read_from_the_key() {
        let mut draw = Draw::new(3, Kind::AwsCredentials);
        for _ in 0..50 {
            let account = account(&mut draw);
            let key = Key::draw(&mut draw, account);
            let letters = key.id.strip_prefix("AKIA").unwrap();
            assert!(letters.len() == 16 && key.secret.len() == 40);
            // As the tools do it: 48 bits, of which 40 are the account.
            let bits = letters.bytes().take(10).fold(0u64, |bits, b| {
                bits << 5 | BASE32.iter().position(|x| *x == b).unwrap() as u64
            });
            let first = bits >> 2;
            assert_eq!((first & 0x7fff_ffff_ff80) >> 7, account);
            assert!(letters.starts_with(|c: char| c >= 'Q' || c.is_ascii_digit()));
        }
    }
}
