//! An application's environment file: the database, mail, cloud and partner credentials
//! everybody looks for, and two addresses that are ours.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::work::Work;
use super::{Error, File, aws};

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let at = work.draw.moment(work.now, 7, 90);
    let draw = &mut work.draw;
    let (short, domain) = (&work.setting.short, &work.setting.domain);
    let app = draw.pick(&[
        "portal", "shop", "billing", "intranet", "tickets", "api", "reports",
    ]);
    let account = aws::account(draw);
    let key = aws::Key::draw(draw, account);
    let database = work
        .zone_host
        .clone()
        .unwrap_or_else(|| format!("db{:02}.{domain}", draw.between(1, 4)));
    let (engine, port) = draw.pick(&[("mysql", 3306u16), ("pgsql", 5432), ("mariadb", 3306)]);
    let text = format!(
        "APP_NAME={name}\n\
         APP_ENV=production\n\
         APP_KEY=base64:{app_key}\n\
         APP_DEBUG=false\n\
         APP_URL=https://{app}.{domain}\n\
         \n\
         DB_CONNECTION={engine}\n\
         DB_HOST={database}\n\
         DB_PORT={port}\n\
         DB_DATABASE={short}_{app}\n\
         DB_USERNAME={app}\n\
         DB_PASSWORD={db_password}\n\
         \n\
         REDIS_HOST=127.0.0.1\n\
         REDIS_PASSWORD={redis}\n\
         SESSION_DRIVER=redis\n\
         \n\
         MAIL_MAILER=smtp\n\
         MAIL_HOST=mail.{domain}\n\
         MAIL_PORT=587\n\
         MAIL_USERNAME={app}@{domain}\n\
         MAIL_PASSWORD={mail}\n\
         \n\
         AWS_ACCESS_KEY_ID={id}\n\
         AWS_SECRET_ACCESS_KEY={secret}\n\
         AWS_DEFAULT_REGION={region}\n\
         AWS_BUCKET={short}-{app}-{bucket}\n\
         \n\
         EXPORT_API_URL={url}/api/v1\n\
         EXPORT_API_KEY={export}\n\
         ALERT_WEBHOOK_URL={url}/hooks/{hook}\n",
        name = super::draw::capital(app),
        app_key = STANDARD.encode(draw.bytes::<32>()),
        db_password = draw.password(),
        redis = draw.hex(32),
        mail = draw.password(),
        id = key.id,
        secret = key.secret,
        region = draw.pick(&["eu-central-1", "eu-west-1", "us-east-1"]),
        bucket = draw.pick(&["backups", "uploads", "exports", "prod"]),
        url = work.url,
        export = draw.hex(40),
        hook = draw.hex(16),
    );
    let folder = draw.pick(&["app", app, "www", "deploy"]);
    let path = format!("{}/{folder}/.env", work.setting.home);
    Ok(vec![work.text(path, 0o600, at, text)])
}
