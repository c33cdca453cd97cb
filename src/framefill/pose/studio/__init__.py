"""The pose studio: a session that any front end can hold (handles, undo, keyframes), and its face in the browser.

`state` is what one moment of work is, `session` what can be done to it, `drawn` its numbers for a renderer, `saved` its
files; `questions` is what takes seconds, `search` asks it of the process `answering`, in lines of text (`letters`);
these know no browser. `scene`, `panel`, `ask`, `files`, `photo` and `server` put them into a page by viser.
"""
