"""One set of cases for every engine of Dagger's API: what each answers, and what Dagger's own did."""
