import sys
import memalloy

folder = sys.argv[1]  # for instance ~/notes
with memalloy.open(sys.argv[2] if len(sys.argv) > 2 else "kb") as kb:
    print(kb.sync(folder, progress=True))
    print(kb.sync(folder))  # again: nothing has changed, nothing is embedded

    note = kb.add_document("The boiler is serviced in May.", metadata={"by": "Ada"})
    for hit in kb.search("when is the heating checked?", top_k=3):
        first, last = hit.spans.lines or (1, 1)
        print(f"{hit.path or hit.document.id}:{first}-{last}  {hit.score:.3f}")
        print(f"    {hit.content.strip()[:80]}")

    kb.remove_document(note)
