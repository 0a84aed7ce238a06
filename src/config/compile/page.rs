//! Bodies that tidegate sends by itself, from files beside the configuration.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::ByteSize;
use crate::config::fault::Place;
use crate::config::raw;
use crate::model::Page;

use super::Compiler;

/// The most bytes that such a body may have.
pub(super) const PAGE_MAX: u64 = 64 * 1024;

impl Compiler<'_> {
    /// The bodies of a listener's errors.
    pub(super) fn error_pages(
        &mut self,
        raw: &raw::Listener,
        base: &raw::Listener,
    ) -> BTreeMap<u16, Page> {
        let errors = self.choose(&raw.errors, Some(&base.errors), None);
        let entries = errors.into_iter().flat_map(|errors| errors.value.0);
        let page = |entry: raw::ErrorFile| {
            let page = self.page(&entry.value, entry.place, &entry.path, None)?;
            Some((entry.key.0, page))
        };
        entries.filter_map(page).collect()
    }

    /// The content of `file`, with its type by its extension unless that is said.
    pub(super) fn page(
        &self,
        file: &Path,
        place: Place,
        key: &str,
        content_type: Option<String>,
    ) -> Option<Page> {
        let Some(content_type) = content_type.or_else(|| type_by_extension(file)) else {
            let problem = format!("what {} is cannot be told by its name", file.display());
            self.fault(place, key, problem, "name it .html, .json or .txt");
            return None;
        };
        let path = self.folder.join(file);
        match (self.read)(&path) {
            Ok(body) if body.len() as u64 > PAGE_MAX => {
                let problem = format!("{} is larger than {}", path.display(), ByteSize(PAGE_MAX));
                self.fault(place, key, problem, "say it in fewer words");
                None
            }
            Ok(body) => Some(Page { content_type, body }),
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", path.display());
                self.fault(place, key, problem, "relative paths start where the configuration is");
                None
            }
        }
    }
}

fn type_by_extension(file: &Path) -> Option<String> {
    let content_type = match file.extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    };
    Some(content_type.to_owned())
}
