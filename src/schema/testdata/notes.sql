/* Notes and their tags;
   the view is what the pages read. */
create table note (
    id integer primary key,
    title text not null,
    body text default '/* empty */',
    size integer as (length(title) + length(body)) virtual
);
create table tag (name text primary key, color text not null default '#fff') without rowid;
create table note_tag (
    note integer references note on update cascade,
    tag text references tag (name),
    primary key (note, tag)
);
create view tagged as select n.id, n.title, count(*) as tags from note n join note_tag t on t.note = n.id group by n.id;
create trigger note_gone after delete on note begin
    delete from note_tag where note = old.id;
    update tag set color = '#000' where name = 'gone';
end;
insert into tag values ('red', '#f00'), ('blue', '#00f');
