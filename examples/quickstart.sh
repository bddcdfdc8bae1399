# Index a folder, ask, look, and clean up: every verb once.
export MEMALLOY_DB=kb
memalloy sync notes
memalloy search -k 3 "how long are backups kept?"
memalloy search --json -k 1 "how long are backups kept?"
memalloy ls
memalloy get notes/backup.md
memalloy status
echo "a text" | memalloy embed
memalloy tokenize --special "a text"
rm notes/old.md && memalloy sync notes
