//! A dump of a database as `mysqldump --dump-replica` writes it: the replication it
//! configures names our host, so whoever imports it and starts the replica resolves it.

use std::fmt::Write;

use super::draw::{ALNUM, Draw};
use super::work::Work;
use super::{Error, File};
use crate::model::Stamp;

/// Letters of bcrypt.
const BCRYPT: &[u8] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub(super) fn make(work: &mut Work) -> Result<Vec<File>, Error> {
    let host = work.host()?;
    let at = work.draw.moment(work.now, 7, 60);
    let app = work
        .draw
        .pick(&["shop", "portal", "crm", "billing", "tickets"]);
    let database = format!("{}_{app}", work.setting.short.replace(['.', '-'], "_"));
    let (version, tail) = work.draw.pick(&[
        ("10.11.6", "-0+deb12u1"),
        ("10.11.4", "-1~deb12u1"),
        ("10.6.16", "-0ubuntu0.22.04.1"),
        ("10.5.23", "-0+deb11u1"),
    ]);
    let draw = &mut work.draw;
    let source = format!(
        "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT=3306, MASTER_USER='repl', \
         MASTER_PASSWORD='{}', MASTER_LOG_FILE='mysql-bin.{:06}', MASTER_LOG_POS={};",
        draw.letters(ALNUM, 16),
        draw.between(12, 900),
        draw.between(400, 90_000_000),
    );
    let mut sql = format!(
        "-- MariaDB dump 10.19  Distrib {version}-MariaDB, for debian-linux-gnu (x86_64)\n\
         --\n\
         -- Host: localhost    Database: {database}\n\
         -- ------------------------------------------------------\n\
         -- Server version\t{version}-MariaDB{tail}-log\n\
         \n\
         /*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\n\
         /*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;\n\
         /*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;\n\
         /*!40101 SET NAMES utf8mb4 */;\n\
         /*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;\n\
         /*!40103 SET TIME_ZONE='+00:00' */;\n\
         /*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;\n\
         /*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;\n\
         /*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n\
         /*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;\n\
         \n\
         --\n\
         -- stop slave statement to make a recovery dump)\n\
         --\n\
         \n\
         STOP SLAVE;\n\
         \n\
         --\n\
         -- Position to start replication or point-in-time recovery from (the master of this slave)\n\
         --\n\
         \n\
         {source}\n\
         \n\
         --\n\
         -- Current Database: `{database}`\n\
         --\n\
         \n\
         CREATE DATABASE /*!32312 IF NOT EXISTS*/ `{database}` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci */;\n\
         \n\
         USE `{database}`;\n"
    );
    users(&mut sql, draw, &work.setting.domain, at);
    invoices(&mut sql, draw, at);
    let t = at.utc();
    let end = format!(
        "\n--\n-- start slave statement to make a recovery dump)\n--\n\n\
         START SLAVE;\n\
         /*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\
         \n\
         /*!40101 SET SQL_MODE=@OLD_SQL_MODE */;\n\
         /*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;\n\
         /*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;\n\
         /*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;\n\
         /*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;\n\
         /*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;\n\
         /*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\
         \n\
         -- Dump completed on {} {:2}:{:02}:{:02}\n",
        t.date(),
        t.hour(),
        t.minute(),
        t.second()
    );
    sql.push_str(&end);
    let name = format!("{database}_{}.sql", t.date());
    let path = if work.setting.windows {
        work.setting.document(&name)
    } else {
        format!("/var/backups/{name}")
    };
    Ok(vec![work.file(path, "application/sql", 0o600, at, sql)])
}

/// A table with `columns` (SQL) and `rows` (already in parentheses).
fn table(sql: &mut String, name: &str, columns: &str, next: usize, rows: &[String]) {
    let text = format!(
        "\n--\n-- Table structure for table `{name}`\n--\n\n\
         DROP TABLE IF EXISTS `{name}`;\n\
         /*!40101 SET @saved_cs_client     = @@character_set_client */;\n\
         /*!40101 SET character_set_client = utf8 */;\n\
         CREATE TABLE `{name}` (\n{columns}\n) ENGINE=InnoDB AUTO_INCREMENT={next} DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;\n\
         /*!40101 SET character_set_client = @saved_cs_client */;\n\
         \n--\n-- Dumping data for table `{name}`\n--\n\n\
         LOCK TABLES `{name}` WRITE;\n\
         /*!40000 ALTER TABLE `{name}` DISABLE KEYS */;\n\
         INSERT INTO `{name}` VALUES\n{};\n\
         /*!40000 ALTER TABLE `{name}` ENABLE KEYS */;\n\
         UNLOCK TABLES;\n",
        rows.join(",\n")
    );
    sql.push_str(&text);
}

fn users(sql: &mut String, draw: &mut Draw, domain: &str, at: Stamp) {
    let count = draw.between(24, 60);
    let rows: Vec<String> = (1..=count)
        .map(|id| {
            let person = draw.person(&[]);
            let hash = draw.letters(BCRYPT, 53);
            let seen = moment(draw.moment(at, 1, 90));
            let role = if id == 1 { "admin" } else { draw.pick(&["user", "user", "user", "editor"]) };
            format!(
                "({id},'{login}{id}','{full}','{login}@{domain}','$2y$10${hash}','{role}','{seen}')",
                login = person.login(),
                full = person.full(),
            )
        })
        .collect();
    let columns = "  `id` int(10) unsigned NOT NULL AUTO_INCREMENT,\n  \
         `login` varchar(64) NOT NULL,\n  \
         `name` varchar(128) NOT NULL,\n  \
         `email` varchar(190) NOT NULL,\n  \
         `password` varchar(255) NOT NULL,\n  \
         `role` varchar(16) NOT NULL DEFAULT 'user',\n  \
         `last_login` datetime DEFAULT NULL,\n  \
         PRIMARY KEY (`id`),\n  \
         UNIQUE KEY `login` (`login`)";
    table(sql, "users", columns, rows.len() + 1, &rows);
}

fn invoices(sql: &mut String, draw: &mut Draw, at: Stamp) {
    let count = draw.between(40, 120);
    let rows: Vec<String> = (1..=count)
        .map(|id| {
            let mut iban = String::new();
            // Two check digits and eighteen digits: the shape of a German account.
            write!(
                iban,
                "DE{:02}{:018}",
                draw.between(10, 97),
                draw.below(1 << 59)
            )
            .unwrap_or_default();
            let issued = draw.moment(at, 1, 400);
            format!(
                "({id},'{}','{}','{iban}',{}.{:02},'{}')",
                draw.between(10_000, 99_999),
                draw.person(&[]).full(),
                draw.between(12, 4800),
                draw.below(100),
                issued.utc().date(),
            )
        })
        .collect();
    let columns = "  `id` int(10) unsigned NOT NULL AUTO_INCREMENT,\n  \
         `number` varchar(16) NOT NULL,\n  \
         `customer` varchar(128) NOT NULL,\n  \
         `iban` varchar(34) DEFAULT NULL,\n  \
         `total` decimal(10,2) NOT NULL,\n  \
         `issued` date NOT NULL,\n  \
         PRIMARY KEY (`id`)";
    table(sql, "invoices", columns, rows.len() + 1, &rows);
}

/// A DATETIME.
fn moment(at: Stamp) -> String {
    let t = at.utc();
    format!(
        "{} {:02}:{:02}:{:02}",
        t.date(),
        t.hour(),
        t.minute(),
        t.second()
    )
}
