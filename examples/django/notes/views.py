from django.http import HttpResponse

from notes.models import Note


def index(request):
    lines = [note.text for note in Note.objects.order_by("written")]
    return HttpResponse("\n".join(lines), content_type="text/plain")
