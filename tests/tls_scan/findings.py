"""What testssl.sh found, from its JSON: fails on anything above low that is not excluded here.

    python3 findings.py REPORT.json
"""

import json
import sys

# Findings that say nothing about the daemon, each with its reason.
EXCLUDED = {
    "cipher_order": "every cipher on offer is an AEAD with forward secrecy, and which is fastest the client knows best: "
    "Mozilla's guideline (5.7, modern and intermediate) asks for server_preferred_order = false",
}

with open(sys.argv[1]) as report:
    findings = json.load(report)
# A scan that broke off finds nothing.
assert len(findings) > 100, f"only {len(findings)} findings: {findings}"
bad = 0
for finding in findings:
    name, severity = finding["id"], finding["severity"]
    if severity in ["OK", "INFO", "DEBUG"]:
        continue
    above = severity not in ["LOW", "WARN"]
    reason = EXCLUDED.get(name)
    bad += above and not reason
    print(f"{severity:8} {name}: {finding['finding']}" + (f" [excluded: {reason}]" if reason else ""))
good = sum(finding["severity"] == "OK" for finding in findings)
print(f"{len(findings)} findings, {good} of them good, {bad} above low")
sys.exit(1 if bad else 0)
